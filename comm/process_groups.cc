#include "comm/process_groups.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/status.h"

namespace unipool {

absl::Status CheckExpertParallel(int expert_parallel, int ranks) {
  if (expert_parallel == 0) return absl::OkStatus();
  if (expert_parallel > 0 && ranks % expert_parallel == 0) return absl::OkStatus();
  std::vector<int> divisors;
  for (int divisor = 1; divisor <= ranks; ++divisor) {
    if (ranks % divisor == 0) divisors.push_back(divisor);
  }
  return absl::InvalidArgumentError(
      absl::StrCat("parallel.expert_parallel = ", expert_parallel, " does not divide ", ranks,
                   ranks == 1 ? " rank" : " ranks", "; set it to one of ",
                   absl::StrJoin(divisors, ", "), ", or to 0 for all ranks"));
}

absl::StatusOr<ProcessGroups> ProcessGroups::Create(std::unique_ptr<Communicator> world,
                                                    int expert_parallel) {
  const int ranks = world->size();
  RETURN_IF_ERROR(CheckExpertParallel(expert_parallel, ranks));
  if (expert_parallel == 0) expert_parallel = ranks;
  ProcessGroups groups;
  groups.expert_ = world->Split(world->rank() / expert_parallel, "expert");
  groups.expert_data_ = world->Split(world->rank() % expert_parallel, "expert_data");
  groups.world_ = std::move(world);
  return groups;
}

}  // namespace unipool
