// Math functions that the compiler can vectorize, unlike those of the C library. Included only by
// *_cpu.cc.
#pragma once

#include <bit>
#include <cstdint>

namespace unipool {

// exp(x) with an error of at most 2 ulp for x in [-87.3, 88.3]; x is clamped to that range; NaN
// stays NaN. Cody-Waite reduction and a degree-5 minimax polynomial, without branches, so loops
// over it vectorize. The clamps compare bit patterns because the compiler turns float comparisons
// into branches. Compared as unsigned integers, negative floats are above all positive ones and
// grow with their magnitude; compared as signed integers, they are below.
inline float FastExp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr uint32_t kLowest = std::bit_cast<uint32_t>(-87.3f);
  constexpr int32_t kHighest = std::bit_cast<int32_t>(88.3f);
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const int32_t above_lowest = static_cast<int32_t>(bits < kLowest ? bits : kLowest);
  const int32_t clamped = above_lowest < kHighest ? above_lowest : kHighest;
  const float y = std::bit_cast<float>(clamped);
  const float shifted = y * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (y - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float mantissa = p * r * r + r + 1.0f;
  const uint32_t exponent = (std::bit_cast<uint32_t>(shifted) << 23) + (127u << 23);
  const float result = mantissa * std::bit_cast<float>(exponent);
  const uint32_t nan_mask = 0u - static_cast<uint32_t>(x != x);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(result) | nan_mask);
}

// Maximum of row[0, count), count >= 1. A NaN may be ignored.
inline float RowMax(const float* row, int64_t count) {
  float max = row[0];
#pragma omp simd reduction(max : max)
  for (int64_t i = 0; i < count; ++i) max = row[i] > max ? row[i] : max;
  return max;
}

// out[i] = exp(row[i] - shift); returns the sum. out may be row.
inline float ExpRow(const float* row, int64_t count, float shift, float* out) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) {
    const float value = FastExp(row[i] - shift);
    out[i] = value;
    sum += value;
  }
  return sum;
}

}  // namespace unipool
