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

// INVALID_ARGUMENT if the plan exceeds this rank's share of its device's memory, or on a CPU the
// limit of the process on address space (ulimit -v). `remedy` ends the error: "use a smaller
// model".
absl::Status CheckMemory(const MemoryPlan& plan, const World& world, const std::string& remedy);

// Reserves `plan.activations` and more, since a rank may get more rows than planned. On the CPU
// this is address space that becomes memory when a step first touches it; a limit on address space
// keeps room for threads and for the checkpoint copy. On a GPU it is memory at once, so call this
// after all other lasting allocations.
absl::StatusOr<Arena> ReserveArena(const World& world, const MemoryPlan& plan);

}  // namespace unipool
