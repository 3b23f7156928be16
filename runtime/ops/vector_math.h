// Arithmetic that the compiler can vectorize where the C library's cannot be. For *_cpu.cc only.
#pragma once

#include <bit>
#include <cstdint>

namespace unipool {

// exp(x) to 2 ulp for x in [-87.3, 88.3], clamped outside; NaN stays NaN. Cody-Waite reduction and a
// degree-5 minimax polynomial; branch-free, so loops over it become SIMD code.
inline float FastExp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  x = x < -87.3f ? -87.3f : x;
  x = x > 88.3f ? 88.3f : x;
  const float shifted = x * 1.44269504088896341f + kRound;
  const float n = shifted - kRound;
  const float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float mantissa = p * r * r + r + 1.0f;
  const int32_t exponent = (std::bit_cast<int32_t>(shifted) << 23) + (127 << 23);
  return mantissa * std::bit_cast<float>(exponent);
}

}  // namespace unipool
