// Random numbers as numpy's legacy RandomState draws them: MT19937 seeded by one word, integers by
// masked rejection, Fisher-Yates from the end. What was shuffled there is replayed here exactly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <utility>

#include "absl/types/span.h"

namespace unipool {

class NumpyRandom {
 public:
  explicit NumpyRandom(uint32_t seed) : words_(seed) {}

  // Uniform in [0, last]; 0 takes no word of the generator.
  uint32_t UpTo(uint32_t last);

  // `values` has at most 2^32 elements.
  template <typename T>
  void Shuffle(absl::Span<T> values) {
    for (size_t i = values.size(); i-- > 1;) {
      std::swap(values[i], values[UpTo(static_cast<uint32_t>(i))]);
    }
  }

 private:
  std::mt19937 words_;
};

}  // namespace unipool
