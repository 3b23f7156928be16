#include "comm/expert_map.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "runtime/copy.h"
#include "runtime/ops/expert_order.h"

namespace unipool {

ExpertMap ExpertMap::Blocks(int experts, int ranks, int first_rank) {
  CHECK_GE(experts, 0);
  CHECK_GT(ranks, 0);
  CHECK(0 <= first_rank && first_rank < ranks)
      << "first rank " << first_rank << " of " << ranks << " ranks";
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
  map.order_.positions.resize(map.owner_.size());
  for (int e = 0; e < map.experts(); ++e) {
    CHECK(0 <= map.owner_[e] && map.owner_[e] < ranks)
        << "the owner of expert " << e << " is rank " << map.owner_[e] << " of " << ranks;
    std::vector<int>& owned = map.owned_[map.owner_[e]];
    map.slot_[e] = static_cast<int>(owned.size());
    owned.push_back(e);
  }
  int order = 0;
  for (const std::vector<int>& owned : map.owned_) {
    map.first_order_.push_back(order);
    for (const int e : owned) map.order_.positions[e] = order++;
  }
  map.SetChunks(1);
  return map;
}

void ExpertMap::SetChunks(int chunks) {
  CHECK_GT(chunks, 0);
  chunks_ = std::min(chunks, max_chunks());
  send_order_.positions.resize(owner_.size());
  send_order_.uploaded = false;
  int order = 0;
  for (int chunk = 0; chunk < chunks_; ++chunk) {
    for (int r = 0; r < ranks(); ++r) {
      for (int64_t s = first_slot(r, chunk); s < first_slot(r, chunk + 1); ++s) {
        send_order_.positions[owned_[r][static_cast<size_t>(s)]] = order++;
      }
    }
  }
}

int ExpertMap::max_chunks() const {
  size_t max = 1;
  for (const std::vector<int>& owned : owned_) max = std::max(max, owned.size());
  return ranks() == 1 ? 1 : static_cast<int>(max);
}

int64_t ExpertMap::first_slot(int rank, int chunk) const {
  return ChunkBegin(static_cast<int64_t>(owned_[rank].size()), chunks_, chunk);
}

Tensor ExpertMap::Table::On(Stream& stream) const {
  const Device device = stream.device();
  const Tensor on_host =
      Tensor::Of(const_cast<int32_t*>(positions.data()), {static_cast<int64_t>(positions.size())});
  if (device.type == DeviceType::kCpu || on_host.empty()) return on_host;
  Tensor table = on_host;
  table.device = device;
  if (on_device.data() == nullptr) {
    absl::StatusOr<Buffer> buffer = Buffer::Allocate(device, on_host.bytes());
    CHECK(buffer.ok()) << buffer.status();
    on_device = *std::move(buffer);
  }
  CHECK(on_device.device() == device)
      << "the table is on " << ToString(on_device.device()) << ", not on " << ToString(device);
  table.data = on_device.data();
  if (!uploaded) CopyTensor(on_host, table, stream);
  uploaded = true;
  return table;
}

}  // namespace unipool
