// Writes a run's whole state so that it is whole or not there: every rank writes its own tensors
// into a folder beside the final name, the manifest comes last, then the folder is renamed and
// `latest` points to it. Reading: checkpoint_reader.h. Layout: launch/README.md.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "configs/checkpoint.pb.h"
#include "launch/world.h"
#include "model/optimizer.h"
#include "model/parameter.h"
#include "model/transformer.h"

namespace unipool {

// Where the state of a run lies, and what describes it. Borrowed.
struct TrainingState {
  const config::Run& run;  // resolved, as the user gave it
  int64_t step;            // finished
  bool validation_due;     // of the weights as they are
  ParameterList& parameters;
  Optimizer& optimizer;
  Transformer& model;
};

// What the manifest says besides the files and tensors.
config::Manifest Describe(const TrainingState& state, const World& world);

// The same of this rank alone; the manifest has it of all ranks, in their order.
void DescribeRank(const TrainingState& state, config::Manifest* part);

// Writes CHECKPOINTS/step_XXXXXXXX and waits for the disk. Returns the folder. Collective; on an
// error of any rank nothing is left under the final name, and all ranks get an error.
absl::StatusOr<std::string> SaveCheckpoint(const std::string& checkpoints,
                                           const TrainingState& state, const World& world);

}  // namespace unipool
