#include "launch/world/step_memory.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/build_config.h"
#include "runtime/device.h"
#include "runtime/gpu.h"

namespace unipool {
namespace {

bool IsGpu(Device device) { return device.type == DeviceType::kCuda; }

int64_t MemoryBytes(Device device) {
  if constexpr (kWithCuda) {
    if (IsGpu(device)) return GpuMemoryBytes(device);
  }
  return HostMemoryBytes();
}

// Reserves as much address space as the limits of the process allow, up to the host's memory.
absl::StatusOr<Arena> ReserveOnHost(int64_t planned_bytes) {
  for (int64_t bytes = HostMemoryBytes(); bytes > 2 * planned_bytes; bytes /= 2) {
    if (absl::StatusOr<Arena> arena = Arena::Create(Device{}, bytes); arena.ok()) return arena;
  }
  return Arena::Create(Device{}, 2 * planned_bytes);
}

// The share of the free memory that one rank may take. A tenth is left for libraries that load
// their kernels later.
int64_t FreeBytes(const World& world) {
  if constexpr (kWithCuda) return FreeGpuBytes(world.device()) / 10 * 9 / world.ranks_on_device();
  return 0;
}

}  // namespace

absl::Status CheckMemory(const MemoryPlan& plan, const World& world, const std::string& remedy) {
  const bool gpu = IsGpu(world.device());
  const int ranks = gpu ? world.ranks_on_device() : world.ranks_on_host();
  const int64_t memory = MemoryBytes(world.device());
  const int64_t needed = gpu ? plan.on_device() : plan.total();
  if (needed <= memory / ranks) return absl::OkStatus();
  const std::string copies =
      plan.weights > 0 ? absl::StrFormat(" and %d", plan.weights >> 20) : std::string();
  return absl::InvalidArgumentError(absl::StrFormat(
      "rank %d needs %d MiB (weights %d%s, gradients %d, moments %d, activations %d%s), but %s has "
      "%d MiB for %d of the ranks; %s",
      world.rank(), needed >> 20, plan.values >> 20, copies, plan.gradients >> 20,
      plan.moments >> 20, plan.activations >> 20,
      gpu ? "" : absl::StrCat(", checkpoint copy ", plan.snapshot >> 20),
      gpu ? ToString(world.device()) : "its host", memory >> 20, ranks, remedy));
}

absl::StatusOr<Arena> ReserveArena(const World& world, int64_t planned_bytes) {
  if (!IsGpu(world.device())) return ReserveOnHost(planned_bytes);
  constexpr int64_t kSmallTensors = int64_t{64} << 20;  // not in the plan: small tensors, rounding
  const int64_t min_bytes = planned_bytes + planned_bytes / 20 + kSmallTensors;
  // In the worst case one rank of the expert group receives the rows of all.
  const int64_t max_bytes = min_bytes + planned_bytes * (world.groups().expert().size() - 1);
  return Arena::Create(world.device(), std::max(min_bytes, std::min(max_bytes, FreeBytes(world))));
}

}  // namespace unipool
