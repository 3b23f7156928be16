// A run small enough for a test to train in milliseconds, and text for it to learn.
#pragma once

#include <string>

#include "configs/run.pb.h"

namespace unipool::testing {

// Writes PREFIX.bin/.idx: 60 documents of made-up, learnable bytes.
void WriteTinyDataset(const std::string& prefix);

enum class Variant { kDense, kVanilla, kUniPool, kUniPoolTop2, kSigmoid, kUniPoolLocal };

// Resolved: 3 layers, 7 experts a pool (no multiple of 2, 3 or 4 ranks), 12 sequences a step.
config::Run TinyRun(Variant variant, const std::string& prefix);

}  // namespace unipool::testing
