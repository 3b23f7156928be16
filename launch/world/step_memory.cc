#include "launch/world/step_memory.h"

#include <omp.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launch/world/process_limits.h"
#include "runtime/build_config.h"
#include "runtime/cgroup.h"
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

// The address space of `plan`, and of the threads and libraries beside it.
int64_t AddressBytes(const MemoryPlan& plan) {
  return plan.total() + ThreadsAddressBytes(omp_get_max_threads());
}

// INVALID_ARGUMENT if the plan exceeds the limit of this process on address space. Checked early:
// OpenBLAS waits for ever for memory that it does not get.
absl::Status CheckAddressSpace(const MemoryPlan& plan, const World& world,
                               const std::string& remedy) {
  const AddressSpace space = ReadAddressSpace();
  if (AddressBytes(plan) <= space.left_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "rank %d needs %d MiB of address space (%d for %d threads and libraries), but its limit on "
      "%s, %d MiB, leaves %d MiB; raise the limit, use fewer threads (--threads N), or %s",
      world.rank(), AddressBytes(plan) >> 20, ThreadsAddressBytes(omp_get_max_threads()) >> 20,
      omp_get_max_threads(), space.limit_name, space.limit_bytes >> 20, space.left_bytes >> 20,
      remedy));
}

// The address space that the arena may take at most: up to the host's memory, or half of what a
// limit on address space leaves beside the threads and the checkpoint copy.
int64_t MaxArenaBytes(const MemoryPlan& plan) {
  const AddressSpace space = ReadAddressSpace();
  if (space.limit_bytes == AddressSpace::kUnlimited) return HostMemoryBytes();
  const int64_t others = plan.snapshot + ThreadsAddressBytes(omp_get_max_threads());
  const int64_t spare = std::max<int64_t>(0, space.left_bytes - others - plan.activations);
  return std::min(HostMemoryBytes(), plan.activations + spare / 2);
}

// Reserves as much address space as the system gives.
absl::StatusOr<Arena> ReserveOnHost(const MemoryPlan& plan) {
  const int64_t max_bytes = MaxArenaBytes(plan);
  const int64_t min_bytes = std::min(max_bytes, 2 * plan.activations);
  for (int64_t bytes = max_bytes; bytes > min_bytes; bytes /= 2) {
    if (absl::StatusOr<Arena> arena = Arena::Create(Device{}, bytes); arena.ok()) return arena;
  }
  return Arena::Create(Device{}, min_bytes);
}

// Names the control group that limits the host's memory to `memory` bytes, if one does.
std::string CgroupNote(int64_t memory) {
  const CgroupLimits limits = ReadCgroupLimits();
  if (limits.memory_bytes > memory) return "";
  return absl::StrCat(" (limit of the cgroup ", limits.memory_group, ")");
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
  if (needed <= memory / ranks) {
    return gpu ? absl::OkStatus() : CheckAddressSpace(plan, world, remedy);
  }
  const std::string copies =
      plan.weights > 0 ? absl::StrFormat(" and %d", plan.weights >> 20) : std::string();
  return absl::InvalidArgumentError(absl::StrFormat(
      "rank %d needs %d MiB (weights %d%s, gradients %d, moments %d, activations %d%s), but %s has "
      "%d MiB for %d of the ranks%s; %s",
      world.rank(), needed >> 20, plan.values >> 20, copies, plan.gradients >> 20,
      plan.moments >> 20, plan.activations >> 20,
      gpu ? "" : absl::StrCat(", checkpoint copy ", plan.snapshot >> 20),
      gpu ? ToString(world.device()) : "its host", memory >> 20, ranks,
      gpu ? "" : CgroupNote(memory), remedy));
}

absl::StatusOr<Arena> ReserveArena(const World& world, const MemoryPlan& plan) {
  if (!IsGpu(world.device())) return ReserveOnHost(plan);
  const int64_t planned_bytes = plan.activations;
  constexpr int64_t kSmallTensors = int64_t{64} << 20;  // not in the plan: small tensors, rounding
  const int64_t min_bytes = planned_bytes + planned_bytes / 20 + kSmallTensors;
  // In the worst case one rank of the expert group receives the rows of all.
  const int64_t max_bytes = min_bytes + planned_bytes * (world.groups().expert().size() - 1);
  return Arena::Create(world.device(), std::max(min_bytes, std::min(max_bytes, FreeBytes(world))));
}

}  // namespace unipool
