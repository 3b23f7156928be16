// Time by the monotonic clock, which adjustments of the system's date do not move.
#pragma once

#include <chrono>

namespace unipool {

// Seconds from `start` to now.
double SecondsSince(std::chrono::steady_clock::time_point start);

}  // namespace unipool
