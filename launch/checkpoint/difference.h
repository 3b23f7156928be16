// Where two checkpoints differ: in all that a run goes on from, and in its config.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "launch/checkpoint/reader.h"

namespace unipool {

// What the first has and what the second has.
using Values = std::pair<std::string, std::string>;

// By name. Layouts are not compared: how many ranks wrote what into which file.
struct CheckpointDifference {
  std::map<std::string, Values> config;  // fields but run_dir, which only says where
  // Of the manifest: the step, the data's cursor and identity, statistics, verdicts, the seed.
  std::map<std::string, Values> state;
  // "lm_head.weight EXP_AVG" and how many elements differ, in their bits, by how much.
  std::map<std::string, std::string> tensors;
  bool empty() const { return config.empty() && state.empty() && tensors.empty(); }
};

// Reads both from end to end; damage is an error.
absl::StatusOr<CheckpointDifference> Compare(const Checkpoint& a, const Checkpoint& b);

}  // namespace unipool
