// Compares two checkpoints: their configs, tensors and the rest of the state.
#pragma once

#include <map>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "launch/checkpoint/reader.h"

namespace unipool {

// The value in the first checkpoint and in the second.
using Values = std::pair<std::string, std::string>;

// All differences by name. The layout is not compared: the number of ranks and what is in which
// file.
struct CheckpointDifference {
  std::map<std::string, Values> config;  // by field path, without run_dir
  // By field of the manifest: step, data, statistics, divergence, seed.
  std::map<std::string, Values> state;
  // By name such as "lm_head.weight EXP_AVG": how many elements differ in their bits and by how
  // much.
  std::map<std::string, std::string> tensors;
  bool empty() const { return config.empty() && state.empty() && tensors.empty(); }
};

// Reads all tensors of both. DATA_LOSS if one of them is damaged.
absl::StatusOr<CheckpointDifference> Compare(const Checkpoint& a, const Checkpoint& b);

}  // namespace unipool
