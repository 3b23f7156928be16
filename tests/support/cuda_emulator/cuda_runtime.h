// Replaces CUDA's header in emulated builds: the keywords of CUDA as C++, and the part of the
// runtime that UniPool uses. Calls return when their work is done, whatever the stream.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>  // before __noinline__, which it uses as an attribute's name
#include <new>
#include <type_traits>
#include <utility>

#include "tests/support/cuda_emulator/fibers.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __shared__ static  // one block runs at a time
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(...)
#define __grid_constant__

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned width = 1, unsigned height = 1, unsigned depth = 1)
      : x(width), y(height), z(depth) {}
};

inline constexpr int warpSize = 32;

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline void __syncthreads() { cuda_emulator::MeetBlock(); }
inline int __syncthreads_count(int is) { return cuda_emulator::SumOverBlock(is != 0 ? 1 : 0); }
inline int __syncthreads_or(int is) { return __syncthreads_count(is) > 0; }
inline int __syncthreads_and(int is) { return __syncthreads_count(is == 0 ? 1 : 0) == 0; }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  cuda_emulator::ExchangeInWarp("__syncwarp", mask, nullptr, 0);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline unsigned __activemask() { return 0xffffffffu; }

namespace cuda_emulator {

// Returns the value of lane `from`.
template <typename T>
T Shuffle(const char* what, unsigned mask, T value, int from) {
  static_assert(sizeof(T) <= kSlotBytes && std::is_trivially_copyable_v<T>);
  const unsigned char* slots = ExchangeInWarp(what, mask, &value, sizeof(T));
  std::memcpy(&value, slots + static_cast<size_t>(from) * kSlotBytes, sizeof(T));
  return value;
}
inline int Segment(int width) { return Lane() / width * width; }
inline unsigned Vote(const char* what, unsigned mask, bool is) {
  const unsigned char* slots = ExchangeInWarp(what, mask, &is, sizeof(is));
  unsigned votes = 0;
  for (int lane = 0; lane < kWarp; ++lane) {
    votes |= (slots[static_cast<size_t>(lane) * kSlotBytes] != 0 ? 1u : 0u) << lane;
  }
  return votes;
}

}  // namespace cuda_emulator

template <typename T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32) {
  const int from = cuda_emulator::Segment(width) + (lane & (width - 1));
  return cuda_emulator::Shuffle("__shfl_sync", mask, value, from);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int distance, int width = 32) {
  const int from = cuda_emulator::Lane() ^ distance;
  const bool inside = from < cuda_emulator::Segment(width) + width;
  return cuda_emulator::Shuffle("__shfl_xor_sync", mask, value,
                                inside ? from : cuda_emulator::Lane());
}
template <typename T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance, int width = 32) {
  const int from = cuda_emulator::Lane() - static_cast<int>(distance);
  const bool inside = from >= cuda_emulator::Segment(width);
  return cuda_emulator::Shuffle("__shfl_up_sync", mask, value,
                                inside ? from : cuda_emulator::Lane());
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned distance, int width = 32) {
  const int from = cuda_emulator::Lane() + static_cast<int>(distance);
  const bool inside = from < cuda_emulator::Segment(width) + width;
  return cuda_emulator::Shuffle("__shfl_down_sync", mask, value,
                                inside ? from : cuda_emulator::Lane());
}
inline unsigned __ballot_sync(unsigned mask, int is) {
  return cuda_emulator::Vote("__ballot_sync", mask, is != 0);
}
inline int __any_sync(unsigned mask, int is) {
  return cuda_emulator::Vote("__any_sync", mask, is != 0) != 0;
}
inline int __all_sync(unsigned mask, int is) {
  return cuda_emulator::Vote("__all_sync", mask, is != 0) == 0xffffffffu;
}
template <typename T>
unsigned __match_any_sync(unsigned mask, T value) {
  const unsigned char* slots =
      cuda_emulator::ExchangeInWarp("__match_any_sync", mask, &value, sizeof(T));
  unsigned same = 0;
  for (size_t lane = 0; lane < 32; ++lane) {
    const bool equal =
        std::memcmp(slots + lane * cuda_emulator::kSlotBytes, &value, sizeof(T)) == 0;
    same |= (equal ? 1u : 0u) << lane;
  }
  return same;
}
template <typename T>
T __reduce_add_sync(unsigned mask, T value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(mask, value, distance);
  }
  return value;
}
inline unsigned __reduce_max_sync(unsigned mask, unsigned value) {
  for (int distance = 16; distance > 0; distance /= 2) {
    const unsigned other = __shfl_xor_sync(mask, value, distance);
    value = value > other ? value : other;
  }
  return value;
}
inline unsigned __reduce_min_sync(unsigned mask, unsigned value) {
  return ~__reduce_max_sync(mask, ~value);
}

[[noreturn]] inline void __trap() { cuda_emulator::Stop("__trap"); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int __popcll(unsigned long long bits) { return __builtin_popcountll(bits); }
inline int __ffs(int bits) { return __builtin_ffs(bits); }
inline int __clz(int bits) { return bits == 0 ? 32 : __builtin_clz(static_cast<unsigned>(bits)); }
inline float __int_as_float(int bits) { return __builtin_bit_cast(float, bits); }
inline int __float_as_int(float value) { return __builtin_bit_cast(int, value); }
inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
inline unsigned __float_as_uint(float value) { return __builtin_bit_cast(unsigned, value); }
template <typename T>
T __ldg(const T* from) {
  return *from;
}
template <typename T>
T __ldcs(const T* from) {
  return *from;
}
template <typename T>
void __stcs(T* to, T value) {
  *to = value;
}

// Threads of a block never run concurrently, so plain operations are atomic.
template <typename T>
T atomicAdd(T* to, std::type_identity_t<T> value) {
  static_assert(std::is_integral_v<T>, "sums of floats by atomics depend on the order");
  return std::exchange(*to, *to + value);
}
template <typename T>
T atomicMax(T* to, std::type_identity_t<T> value) {
  return std::exchange(*to, *to > value ? *to : value);
}
template <typename T>
T atomicMin(T* to, std::type_identity_t<T> value) {
  return std::exchange(*to, *to < value ? *to : value);
}
template <typename T>
T atomicOr(T* to, std::type_identity_t<T> value) {
  return std::exchange(*to, *to | value);
}
template <typename T>
T atomicExch(T* to, std::type_identity_t<T> value) {
  return std::exchange(*to, value);
}
template <typename T>
T atomicCAS(T* to, std::type_identity_t<T> expected, std::type_identity_t<T> value) {
  return std::exchange(*to, *to == expected ? value : *to);
}

// CUDA defines these for any two arithmetic types.
template <typename A, typename B>
constexpr std::common_type_t<A, B> min(A a, B b) {
  return a < b ? a : b;
}
template <typename A, typename B>
constexpr std::common_type_t<A, B> max(A a, B b) {
  return a > b ? a : b;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1.0f) : 0.0f; }
inline int __float2int_rn(float x) { return static_cast<int>(std::nearbyint(x)); }

#include "tests/support/cuda_emulator/runtime_calls.h"
