#include "comm/process_groups.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace unipool {

absl::StatusOr<ProcessGroups> ProcessGroups::Create(std::unique_ptr<Communicator> world,
                                                    int expert_parallel) {
  const int ranks = world->size();
  if (expert_parallel == 0) expert_parallel = ranks;
  if (expert_parallel < 0 || ranks % expert_parallel != 0) {
    return absl::InvalidArgumentError(absl::StrCat("expert_parallel = ", expert_parallel,
                                                   " does not divide the ", ranks, " ranks"));
  }
  ProcessGroups groups;
  groups.data_ = world->Split(0, "data");
  groups.expert_ = world->Split(world->rank() / expert_parallel, "expert");
  groups.expert_data_ = world->Split(world->rank() % expert_parallel, "expert_data");
  groups.world_ = std::move(world);
  return groups;
}

}  // namespace unipool
