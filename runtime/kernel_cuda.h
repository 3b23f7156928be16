// Building blocks of all CUDA kernels: launching, thread indices, conversions, 16-byte vector
// accesses, and sums and maxima over a warp or a block in a fixed order. Kernels are launched only
// through LaunchKernel, never with <<<>>>, and take plain pointers and sizes.
//
// Kernels also run under an emulator on the CPU (tests/support/cuda_emulator), which requires whole
// warps: the number of threads of a block is a multiple of 32, warp collectives name all 32 lanes,
// and no thread may return before the last barrier of its block.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "runtime/check_cuda.h"
#include "runtime/dtype.h"
#include "runtime/ptx_cuda.h"
#include "runtime/stream_cuda.h"

namespace unipool {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// Makes Tensor::as<__nv_bfloat16>() valid.
template <>
constexpr DType DTypeOf<__nv_bfloat16>() {
  return DType::kBFloat16;
}

struct LaunchShape {
  dim3 grid;  // a size of 0 launches nothing
  dim3 block;
  size_t shared_bytes = 0;  // dynamic shared memory
};

// Enqueues kernel(arguments...) on `stream`. Aborts on failure.
template <typename... Parameters, typename... Arguments>
void LaunchKernel(cudaStream_t stream, const LaunchShape& shape, void (*kernel)(Parameters...),
                  Arguments... arguments) {
  constexpr size_t kAlwaysAllowed = 48 << 10;
  if (shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
  if (shape.shared_bytes > kAlwaysAllowed) {
    CUDA_CHECK(cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                    cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(shape.shared_bytes)));
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = shape.grid;
  config.blockDim = shape.block;
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream;
  CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

template <typename T>
__host__ __device__ constexpr T CeilDivide(T a, T b) {
  return (a + b - 1) / b;
}

// Launch shape for a grid-stride loop over `count` items by GlobalThread() and GridThreads():
// enough blocks to fill any GPU several times, but no more.
inline LaunchShape GridStride(int64_t count, int threads = 256) {
  constexpr int64_t kMaxBlocks = 4096;
  const int64_t blocks = CeilDivide<int64_t>(count, threads);
  return {.grid = dim3(static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks)),
          .block = dim3(static_cast<unsigned>(threads))};
}

// Number of multiprocessors, for persistent kernels whose blocks loop over the work.
inline int64_t NumMultiprocessors(Stream& stream) {
  int count = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, stream.device().index));
  return count;
}

__device__ __forceinline__ int64_t GlobalThread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t GridThreads() {
  return static_cast<int64_t>(gridDim.x) * blockDim.x;
}
// For one-dimensional blocks.
__device__ __forceinline__ int LaneId() { return static_cast<int>(threadIdx.x % kWarp); }
__device__ __forceinline__ int WarpId() { return static_cast<int>(threadIdx.x / kWarp); }
__device__ __forceinline__ int NumWarps() { return static_cast<int>(blockDim.x / kWarp); }

__device__ __forceinline__ float ToFloat(float value) { return value; }
__device__ __forceinline__ float ToFloat(__nv_bfloat16 value) { return __bfloat162float(value); }
template <typename T>
__device__ __forceinline__ T FromFloat(float value);
template <>
__device__ __forceinline__ float FromFloat<float>(float value) {
  return value;
}
template <>
__device__ __forceinline__ __nv_bfloat16 FromFloat<__nv_bfloat16>(float value) {
  return __float2bfloat16_rn(value);
}

// kSize elements that are read or written in one access; addresses must be aligned to the size of
// the pack.
template <typename T, int kSize>
struct alignas(sizeof(T) * kSize) Pack {
  T values[kSize];
};
// Number of elements of T in 16 bytes.
template <typename T>
inline constexpr int kPack = static_cast<int>(16 / sizeof(T));
template <typename T, int kSize = kPack<T>>
__device__ __forceinline__ Pack<T, kSize> LoadPack(const T* from) {
  ExpectAligned(from, sizeof(Pack<T, kSize>));
  return *reinterpret_cast<const Pack<T, kSize>*>(from);
}
template <typename T, int kSize>
__device__ __forceinline__ void StorePack(T* to, const Pack<T, kSize>& pack) {
  ExpectAligned(to, sizeof(Pack<T, kSize>));
  *reinterpret_cast<Pack<T, kSize>*>(to) = pack;
}

// Argument of the function passed to ForFloatType: Type is float or __nv_bfloat16.
template <typename T>
struct TypeTag {
  using Type = T;
};
// Calls function(TypeTag<T>{}) with T = __nv_bfloat16 if `dtype` is bfloat16, else T = float.
template <typename Function>
void ForFloatType(DType dtype, Function function) {
  if (dtype == DType::kBFloat16) return function(TypeTag<__nv_bfloat16>{});
  function(TypeTag<float>{});
}
// Returns true if every pointer is aligned for 16-byte accesses.
template <typename... T>
bool Aligned(const T*... data) {
  return ((reinterpret_cast<uintptr_t>(data) % 16 == 0) && ...);
}

struct SumOf {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct MaxOf {  // NaN if either argument is NaN
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a > b || a != a ? a : b;
  }
};

// Reduces over a warp with butterfly shuffles. All lanes get the same bits, because both lanes of a
// pair compute the same sum at each step.
template <typename Reduce, typename T>
__device__ __forceinline__ T WarpReduce(T value, Reduce reduce) {
#pragma unroll
  for (int distance = kWarp / 2; distance > 0; distance /= 2) {
    value = reduce(value, __shfl_xor_sync(kAllLanes, value, distance));
  }
  return value;
}
template <typename T>
__device__ __forceinline__ T WarpSum(T value) {
  return WarpReduce(value, SumOf{});
}
template <typename T>
__device__ __forceinline__ T WarpMax(T value) {
  return WarpReduce(value, MaxOf{});
}

// Inclusive prefix sum over the lanes of a warp.
__device__ __forceinline__ int WarpPrefixSum(int value) {
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int before = __shfl_up_sync(kAllLanes, value, distance);
    if (LaneId() >= distance) value += before;
  }
  return value;
}

// Reduces over a one-dimensional block. All threads of the block must call it; all get the same
// bits.
template <typename Reduce, typename T>
__device__ __forceinline__ T BlockReduce(T value, Reduce reduce) {
  __shared__ T of_warp[kWarp];
  value = WarpReduce(value, reduce);
  __syncthreads();  // an earlier call may still be reading of_warp
  if (LaneId() == 0) of_warp[WarpId()] = value;
  __syncthreads();
  value = of_warp[0];
  for (int warp = 1; warp < NumWarps(); ++warp) value = reduce(value, of_warp[warp]);
  return value;
}
template <typename T>
__device__ __forceinline__ T BlockSum(T value) {
  return BlockReduce(value, SumOf{});
}
template <typename T>
__device__ __forceinline__ T BlockMax(T value) {
  return BlockReduce(value, MaxOf{});
}

}  // namespace unipool
