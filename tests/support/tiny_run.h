// A run configuration that trains in milliseconds, and a dataset for it.
#pragma once

#include <string>

#include "configs/run.pb.h"

namespace unipool::testing {

// Writes PREFIX.bin and PREFIX.idx with 60 synthetic documents that a model can learn.
void WriteTinyDataset(const std::string& prefix);

enum class Variant { kDense, kVanilla, kUniPool, kUniPoolTop2, kSigmoid, kUniPoolLocal };

// A resolved configuration with 3 layers, 7 experts per pool (not divisible by 2, 3 or 4 ranks) and
// 12 sequences per step.
config::Run TinyRun(Variant variant, const std::string& prefix);

}  // namespace unipool::testing
