// The choice of the k largest of a row of scores. For *_cpu.cc only.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace unipool {

inline constexpr int32_t kTakenKey = std::numeric_limits<int32_t>::min();

// An integer that orders as the score does, above kTakenKey: the comparisons of integers vectorize,
// and give an order to NaN too (first or last, by its sign). Adding zero makes -0 equal to +0.
inline int32_t OrderedKey(float score) {
  const int32_t bits = std::bit_cast<int32_t>(score + 0.0f);
  const int32_t key = bits ^ ((bits >> 31) & std::numeric_limits<int32_t>::max());
  return key > kTakenKey ? key : kTakenKey + 1;
}

inline int32_t MaxKey(const int32_t* keys, int32_t count) {
  int32_t max = kTakenKey;
#pragma omp simd reduction(max : max)
  for (int32_t i = 0; i < count; ++i) max = keys[i] > max ? keys[i] : max;
  return max;
}

inline int32_t LowestWith(int32_t key, const int32_t* keys, int32_t count) {
  int32_t lowest = count;
#pragma omp simd reduction(min : lowest)
  for (int32_t i = 0; i < count; ++i) {
    const int32_t candidate = keys[i] == key ? i : count;
    lowest = candidate < lowest ? candidate : lowest;
  }
  return lowest;
}

// ids[0..k): where keys[0..count) are largest, falling, ties to the lowest; those become kTakenKey.
// k scans of a row that stays in the first cache; k is small.
inline void ChooseLargest(int32_t* keys, int32_t count, int64_t k, int32_t* ids) {
  for (int64_t j = 0; j < k; ++j) {
    ids[j] = LowestWith(MaxKey(keys, count), keys, count);
    keys[ids[j]] = kTakenKey;
  }
}

}  // namespace unipool
