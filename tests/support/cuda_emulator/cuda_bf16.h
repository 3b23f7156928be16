// Replaces CUDA's header in emulated builds: bf16 numbers with rounding to nearest even.
#pragma once

#include "tests/support/cuda_emulator/cuda_runtime.h"

#include <cstdint>

struct alignas(2) __nv_bfloat16 {
  uint16_t bits;

  __nv_bfloat16() = default;
  __nv_bfloat16(float value) : bits(Round(value)) {}  // NOLINT: as in CUDA
  explicit __nv_bfloat16(double value) : __nv_bfloat16(static_cast<float>(value)) {}
  explicit __nv_bfloat16(int value) : __nv_bfloat16(static_cast<float>(value)) {}
  operator float() const { return __builtin_bit_cast(float, uint32_t{bits} << 16); }

  static uint16_t Round(float value) {
    const auto word = __builtin_bit_cast(uint32_t, value);
    if (value != value) return 0x7fff;
    return static_cast<uint16_t>((word + 0x7fff + (word >> 16 & 1)) >> 16);
  }
};

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;
};

inline float __bfloat162float(__nv_bfloat16 value) { return value; }
inline __nv_bfloat16 __float2bfloat16(float value) { return value; }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return value; }
inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y) { return {x, y}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 value) { return {value.x, value.y}; }
inline float2 __bfloat1622float2(__nv_bfloat162 value) { return {value.x, value.y}; }
inline float __low2float(__nv_bfloat162 value) { return value.x; }
inline float __high2float(__nv_bfloat162 value) { return value.y; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return {x, y}; }
inline uint16_t __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline __nv_bfloat16 __ushort_as_bfloat16(uint16_t bits) {
  return __builtin_bit_cast(__nv_bfloat16, bits);
}
