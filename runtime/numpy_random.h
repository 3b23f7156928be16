// Random numbers identical to those of numpy's legacy generator, numpy.random.RandomState: the
// Mersenne Twister MT19937 seeded with one 32-bit word. Published constants and data orders that
// were drawn with numpy are reproduced with it (model/method.md#sample-order,
// model/method.md#router-constant).
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>

#include "absl/types/span.h"

namespace unipool {

// The same sequence of calls with the same seed gives the same values as RandomState. One thread
// may use an object at a time.
class NumpyRandom {
 public:
  explicit NumpyRandom(uint32_t seed) : words_(seed) {}

  // Uniform integer in [0, max], by rejection under a bit mask. `max` = 0 consumes no random word.
  uint32_t UniformInt(uint32_t max);
  // Draw from Normal(0, 1), as RandomState.standard_normal(): Marsaglia's polar method on 53-bit
  // uniforms. The method yields two values; the next call returns the second one.
  double StandardNormal();

  // Fisher-Yates from the last element to the first, as RandomState.shuffle(). `values` has at most
  // 2^32 elements.
  template <typename T>
  void Shuffle(absl::Span<T> values) {
    for (size_t i = values.size(); i-- > 1;) {
      std::swap(values[i], values[UniformInt(static_cast<uint32_t>(i))]);
    }
  }

 private:
  double Uniform();  // in [0, 1), a multiple of 2^-53

  std::mt19937 words_;
  bool has_saved_normal_ = false;
  double saved_normal_ = 0;  // the second value of the last pair
};

}  // namespace unipool
