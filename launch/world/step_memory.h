// The memory that a rank's steps work in: whether its device has what is planned, and the one
// allocation that is then made.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/world/world.h"
#include "model/footprint.h"
#include "runtime/arena.h"

namespace unipool {

// INVALID_ARGUMENT where the plan is more than this rank's part of its device's memory; `remedy`
// ends the line, as "expected a smaller model".
absl::Status CheckMemory(const MemoryPlan& plan, const World& world, const std::string& remedy);

// Room for `planned_bytes`, and more for ranks that get more rows than planned. On the CPU pages
// become memory when a step first touches them; on a GPU all of it is taken now, after everything
// else that stays.
absl::StatusOr<Arena> ReserveArena(const World& world, int64_t planned_bytes);

}  // namespace unipool
