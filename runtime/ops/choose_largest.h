// Selects the k largest scores of a row. Included only by *_cpu.cc.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

namespace unipool {

inline constexpr int32_t kTakenKey = std::numeric_limits<int32_t>::min();

// Returns an integer, larger than kTakenKey, that is ordered as the score. Integer comparisons
// vectorize and also order NaN (last or first, depending on its sign). Adding zero makes -0 equal
// to +0.
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

// ids[0..k) = the indices of the k largest of keys[0..count) in descending order; ties go to the
// lowest index. Sets the keys of the chosen indices to kTakenKey. Scans the row k times: the row
// stays in the L1 cache and k is small.
inline void ChooseLargest(int32_t* keys, int32_t count, int64_t k, int32_t* ids) {
  for (int64_t j = 0; j < k; ++j) {
    ids[j] = LowestWith(MaxKey(keys, count), keys, count);
    keys[ids[j]] = kTakenKey;
  }
}

}  // namespace unipool
