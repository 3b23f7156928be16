#include "model/schedule.h"

#include <cmath>
#include <numbers>

namespace unipool {

double Schedule::Rate(int64_t step) const {
  const int64_t finished = lagging ? step - 1 : step;
  if (finished <= warmup_steps && warmup_steps > 0) {
    return lr * static_cast<double>(finished) / static_cast<double>(warmup_steps);
  }
  if (finished >= decay_steps) return min_lr;
  const double done = static_cast<double>(finished - warmup_steps) /
                      static_cast<double>(decay_steps - warmup_steps);
  return min_lr + (lr - min_lr) * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
}

}  // namespace unipool
