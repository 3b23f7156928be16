#include "comm/expert_map.h"

#include <glog/logging.h>

#include <utility>

namespace unipool {

ExpertMap ExpertMap::Blocks(int experts, int ranks, int first_rank) {
  CHECK_GE(experts, 0);
  CHECK_GT(ranks, 0);
  CHECK(0 <= first_rank && first_rank < ranks) << first_rank << " of " << ranks;
  std::vector<int> owners;
  owners.reserve(experts);
  for (int r = 0; r < ranks; ++r) {
    const bool has_one_more = (r - first_rank + ranks) % ranks < experts % ranks;
    owners.insert(owners.end(), experts / ranks + has_one_more, r);
  }
  return FromOwners(std::move(owners), ranks);
}

ExpertMap ExpertMap::FromOwners(std::vector<int> owners, int ranks) {
  CHECK_GT(ranks, 0);
  ExpertMap map;
  map.owner_ = std::move(owners);
  map.owned_.resize(ranks);
  map.slot_.resize(map.owner_.size());
  map.order_.resize(map.owner_.size());
  for (int e = 0; e < map.experts(); ++e) {
    CHECK(0 <= map.owner_[e] && map.owner_[e] < ranks) << "owner of expert " << e;
    std::vector<int>& owned = map.owned_[map.owner_[e]];
    map.slot_[e] = static_cast<int>(owned.size());
    owned.push_back(e);
  }
  int order = 0;
  for (const std::vector<int>& owned : map.owned_) {
    map.first_order_.push_back(order);
    for (const int e : owned) map.order_[e] = order++;
  }
  return map;
}

}  // namespace unipool
