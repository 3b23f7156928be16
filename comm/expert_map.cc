#include "comm/expert_map.h"

#include <glog/logging.h>

#include <utility>

#include "runtime/copy.h"

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

Tensor ExpertMap::order_table(Stream& stream) const {
  const Device device = stream.device();
  const Tensor here = Tensor::Of(const_cast<int32_t*>(order_.data()), {experts()});
  if (device.type == DeviceType::kCpu || here.empty()) return here;
  Tensor there = here;
  there.device = device;
  const bool uploaded = order_on_device_.data() != nullptr;
  if (!uploaded) {
    absl::StatusOr<Buffer> buffer = Buffer::Allocate(device, here.bytes());
    CHECK(buffer.ok()) << buffer.status();
    order_on_device_ = *std::move(buffer);
  }
  CHECK(order_on_device_.device() == device) << ToString(device);
  there.data = order_on_device_.data();
  if (!uploaded) CopyTensor(here, there, stream);
  return there;
}

}  // namespace unipool
