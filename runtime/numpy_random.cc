#include "runtime/numpy_random.h"

#include <bit>
#include <cmath>

namespace unipool {

uint32_t NumpyRandom::UniformInt(uint32_t max) {
  if (max == 0) return 0;
  const uint32_t mask = ~uint32_t{0} >> std::countl_zero(max);
  uint32_t draw;
  do {
    draw = static_cast<uint32_t>(words_()) & mask;
  } while (draw > max);
  return draw;
}

double NumpyRandom::Uniform() {
  const uint32_t high = words_() >> 5, low = words_() >> 6;
  return (high * 67108864.0 + low) / 9007199254740992.0;
}

double NumpyRandom::StandardNormal() {
  if (has_saved_normal_) {
    has_saved_normal_ = false;
    return saved_normal_;
  }
  double x1 = 0, x2 = 0, radius2 = 0;
  do {
    x1 = 2.0 * Uniform() - 1.0;
    x2 = 2.0 * Uniform() - 1.0;
    radius2 = x1 * x1 + x2 * x2;
  } while (radius2 >= 1.0 || radius2 == 0.0);
  const double factor = std::sqrt(-2.0 * std::log(radius2) / radius2);
  saved_normal_ = factor * x1;
  has_saved_normal_ = true;
  return factor * x2;
}

}  // namespace unipool
