#include "runtime/clock.h"

#include "absl/time/clock.h"

namespace unipool {

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

absl::Time SteadyNow() {
  static const absl::Time date = absl::Now();
  static const auto start = std::chrono::steady_clock::now();
  return date + absl::Seconds(SecondsSince(start));
}

}  // namespace unipool
