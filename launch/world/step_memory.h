// The memory of a rank: checks a plan against its device, and reserves the arena that the
// activations of all steps use.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/world/world.h"
#include "model/footprint.h"
#include "runtime/arena.h"

namespace unipool {

// INVALID_ARGUMENT if the plan exceeds this rank's share of its device's memory. `remedy` ends the
// error: "use a smaller model".
absl::Status CheckMemory(const MemoryPlan& plan, const World& world, const std::string& remedy);

// Reserves `planned_bytes` and more, since a rank may get more rows than planned. On the CPU this
// is address space that becomes memory when a step first touches it. On a GPU it is memory at once,
// so call this after all other lasting allocations.
absl::StatusOr<Arena> ReserveArena(const World& world, int64_t planned_bytes);

}  // namespace unipool
