// The state of a run that a checkpoint stores. saver.h writes it and reader.h reads it;
// launch/checkpoint/README.md describes the files.
#pragma once

#include <cstdint>
#include <vector>

#include "launch/config/corpus.h"
#include "launch/config/messages.h"
#include "launch/world/world.h"
#include "model/optimizer.h"
#include "model/parameter.h"
#include "model/transformer.h"
#include "runtime/stream.h"

namespace unipool {

// State of divergence detection (launch/train/divergence.h).
struct DivergenceState {
  std::vector<double> losses;    // of the last good steps, oldest first
  std::vector<double> norms;     // gradient norms of the same steps
  int64_t skipped_in_a_row = 0;  // updates skipped since the last good step
  int64_t skipped = 0;           // updates skipped since the start of the run
  int64_t rewinds = 0;
};

// References to the state of a run. All are borrowed for the call that this is passed to.
// A field of the config that has been changed during the run.
struct ConfigChange {
  int64_t step;       // number of steps with the former value
  std::string field;  // such as "schedule.lr"
  std::string former, value;
};

struct TrainingState {
  const config::Run& run;                    // the resolved config
  int64_t step;                              // number of finished steps
  bool validation_due;                       // the validation after `step` is not complete
  int64_t rewound_steps;                     // steps whose data rewinds skipped
  int order_version;                         // of the data (data/blend.h)
  const std::vector<ConfigChange>& changes;  // oldest first
  const std::vector<DatasetIdentity>& datasets;
  const DivergenceState& divergence;
  ParameterList& parameters;
  Optimizer& optimizer;
  Transformer& model;
  Stream& stream;  // the stream on which steps change the state
};

// The manifest of `state` without its files, tensors and per-rank statistics. The same on all
// ranks.
config::Manifest Describe(const TrainingState& state, const World& world);

// Adds the statistics of this rank to `part`. The manifest holds those of all ranks, in rank order.
void DescribeRank(const TrainingState& state, config::Manifest* part);

}  // namespace unipool
