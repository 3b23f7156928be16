// The communication groups of a run. The world of R ranks is a grid: R = replicas x
// expert_parallel. A row (the `expert` group) holds every expert once, sharded; a column (the
// `expert_data` group) holds replicas of the same experts. Every rank has its own slice of the
// batch, and dense weights are replicated on all ranks.
//   rank = replica * expert_parallel + position
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "comm/communicator.h"

namespace unipool {

inline constexpr int kMaxRanks = 1 << 20;  // of a run

// INVALID_ARGUMENT, with the values that are possible, unless `expert_parallel` is 0 or a positive
// divisor of `ranks`.
absl::Status CheckExpertParallel(int expert_parallel, int ranks);

class ProcessGroups {
 public:
  // `expert_parallel` is the number of ranks that share one copy of the experts; 0 means all ranks.
  // Takes ownership of `world`. Collective. INVALID_ARGUMENT as CheckExpertParallel.
  static absl::StatusOr<ProcessGroups> Create(std::unique_ptr<Communicator> world,
                                              int expert_parallel);

  // All ranks. Each has its own slice of the global batch.
  Communicator& world() const { return *world_; }
  // The ranks that together hold each expert once. A rank's position in it determines its experts.
  Communicator& expert() const { return *expert_; }
  // The ranks that hold the same experts as this rank.
  Communicator& expert_data() const { return *expert_data_; }

 private:
  ProcessGroups() = default;

  std::unique_ptr<Communicator> world_;
  std::unique_ptr<Communicator> expert_;
  std::unique_ptr<Communicator> expert_data_;
};

}  // namespace unipool
