#include "data/numpy_random.h"

#include <bit>

namespace unipool {

uint32_t NumpyRandom::UpTo(uint32_t last) {
  if (last == 0) return 0;
  const uint32_t mask = ~uint32_t{0} >> std::countl_zero(last);
  uint32_t draw;
  do {
    draw = static_cast<uint32_t>(words_()) & mask;
  } while (draw > last);
  return draw;
}

}  // namespace unipool
