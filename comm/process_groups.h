// Who works with whom. The world of R ranks is a grid: R = replicas x expert_parallel. A row (the
// expert group) holds every expert once, sharded; a column (the expert_data group) holds the
// replicas of the same experts. Every rank has its own data, and dense weights are replicated on
// all.
//   rank = replica * expert_parallel + position
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "comm/communicator.h"

namespace unipool {

// INVALID_ARGUMENT, naming what fits, where `expert_parallel` ranks cannot share a copy of the
// experts among `ranks`.
absl::Status CheckExpertParallel(int expert_parallel, int ranks);

class ProcessGroups {
 public:
  // `expert_parallel` = ranks that share one copy of the experts; 0 means all ranks. It must divide
  // the number of ranks. Collective. Takes the world over.
  static absl::StatusOr<ProcessGroups> Create(std::unique_ptr<Communicator> world,
                                              int expert_parallel);

  // Ranks with their own slices of the global batch: all of them.
  Communicator& world() const { return *world_; }
  // Ranks that together hold each expert once. My position in it decides which experts are mine.
  Communicator& expert() const { return *expert_; }
  // Ranks that hold the same experts as I do.
  Communicator& expert_data() const { return *expert_data_; }

 private:
  ProcessGroups() = default;

  std::unique_ptr<Communicator> world_;
  std::unique_ptr<Communicator> expert_;
  std::unique_ptr<Communicator> expert_data_;
};

}  // namespace unipool
