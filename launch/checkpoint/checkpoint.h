// What the checkpoint of a run holds: where it lies in memory, and what describes it. Written by
// saver.h, read by reader.h; the layout is in README.md.
#pragma once

#include <cstdint>
#include <vector>

#include "configs/checkpoint.pb.h"
#include "launch/config/corpus.h"
#include "launch/world/world.h"
#include "model/optimizer.h"
#include "model/parameter.h"
#include "model/transformer.h"
#include "runtime/stream.h"

namespace unipool {

// What the next verdicts of train/divergence.h's guard depend on.
struct DivergenceState {
  std::vector<double> losses;  // of the last sound steps, oldest first
  std::vector<double> norms;
  int64_t skipped_in_a_row = 0;
  int64_t skipped = 0;  // in all
  int64_t rewinds = 0;
};

// Where the state of a run lies, and what describes it. Borrowed.
struct TrainingState {
  const config::Run& run;  // resolved, as the user gave it
  int64_t step;            // finished
  bool validation_due;     // of the weights as they are
  int64_t rewound_steps;   // of data, passed over by rewinds
  const std::vector<DatasetIdentity>& datasets;
  const DivergenceState& divergence;
  ParameterList& parameters;
  Optimizer& optimizer;
  Transformer& model;
  Stream& stream;  // on which steps change it
};

// What the manifest says besides the files and tensors.
config::Manifest Describe(const TrainingState& state, const World& world);

// The same of this rank alone; the manifest has it of all ranks, in their order.
void DescribeRank(const TrainingState& state, config::Manifest* part);

}  // namespace unipool
