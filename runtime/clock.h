// Time by the monotonic clock, which adjustments of the system's date do not move.
#pragma once

#include <chrono>

#include "absl/time/time.h"

namespace unipool {

// Seconds from `start` to now.
double SecondsSince(std::chrono::steady_clock::time_point start);

// The time of day when it was first called, plus the monotonic time since then. For deadlines and
// intervals; the time of a log line or record is absl::Now().
absl::Time SteadyNow();

}  // namespace unipool
