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
  // By name such as "lm_head.weight EXP_AVG": how many elements differ by more than the tolerance,
  // and by how much.
  std::map<std::string, std::string> tensors;
  // The largest difference of an element of all tensors, also within the tolerance: its place, such
  // as "lm_head.weight EXP_AVG[5]", its absolute value and its share of the larger element. The
  // place is empty if all elements have the same bits.
  std::string largest_at;
  double largest = 0, largest_relative = 0;
  bool empty() const { return config.empty() && state.empty() && tensors.empty(); }
};

// Reads all tensors of both. Elements that differ by at most `tolerance` count as equal; with 0,
// their bits must be equal. DATA_LOSS if a tensor is damaged.
absl::StatusOr<CheckpointDifference> Compare(const Checkpoint& a, const Checkpoint& b,
                                             double tolerance);

}  // namespace unipool
