// Elementwise kernels: grid-stride loops over packs of 16 bytes, or over single elements if the
// alignment does not allow packs. SumOfSquares adds in double in a fixed order.
#include "runtime/ops/elementwise.h"

#include "runtime/kernel_cuda.h"

namespace unipool {
namespace {

// Adds packs of kSize elements; the elements after the last whole pack are added one per thread.
template <typename T, int kSize>
__global__ void AddKernel(const T* a, const T* b, T* y, int64_t count) {
  const int64_t packs = count / kSize;
  for (int64_t i = GlobalThread(); i < packs; i += GridThreads()) {
    const auto left = LoadPack<T, kSize>(a + i * kSize), right = LoadPack<T, kSize>(b + i * kSize);
    Pack<T, kSize> sum;
#pragma unroll
    for (int j = 0; j < kSize; ++j) {
      sum.values[j] = FromFloat<T>(ToFloat(left.values[j]) + ToFloat(right.values[j]));
    }
    StorePack(y + i * kSize, sum);
  }
  const int64_t last = packs * kSize + GlobalThread();
  if (last < count) y[last] = FromFloat<T>(ToFloat(a[last]) + ToFloat(b[last]));
}

template <typename T>
__global__ void FillKernel(T* x, T value, int64_t count) {
  for (int64_t i = GlobalThread(); i < count; i += GridThreads()) x[i] = value;
}

// Converts packs of kSize elements; the elements after the last whole pack are converted one per
// thread.
template <typename From, typename To, int kSize>
__global__ void CastKernel(const From* x, To* y, int64_t count) {
  const int64_t packs = count / kSize;
  for (int64_t i = GlobalThread(); i < packs; i += GridThreads()) {
    const auto from = LoadPack<From, kSize>(x + i * kSize);
    Pack<To, kSize> to;
#pragma unroll
    for (int j = 0; j < kSize; ++j) to.values[j] = FromFloat<To>(ToFloat(from.values[j]));
    StorePack(y + i * kSize, to);
  }
  const int64_t last = packs * kSize + GlobalThread();
  if (last < count) y[last] = FromFloat<To>(ToFloat(x[last]));
}

constexpr int kSumBlocks = 1024;  // also the number of partial sums
constexpr int kSumThreads = 256;

// Loads four elements from an address that is aligned to 16 bytes (kAligned) or to 4 bytes.
template <bool kAligned>
__device__ __forceinline__ Pack<float, 4> LoadFour(const float* from) {
  if constexpr (kAligned) return LoadPack<float, 4>(from);
  return {from[0], from[1], from[2], from[3]};
}

// The order of the additions depends only on `count`.
template <bool kAligned>
__global__ void SumOfSquaresKernel(const float* x, int64_t count, double* partial) {
  const int64_t packs = count / 4;
  double sum = 0;
  for (int64_t i = GlobalThread(); i < packs; i += GridThreads()) {
    const auto pack = LoadFour<kAligned>(x + i * 4);
#pragma unroll
    for (int j = 0; j < 4; ++j) sum += double{pack.values[j]} * double{pack.values[j]};
  }
  const int64_t last = packs * 4 + GlobalThread();
  if (last < count) sum += double{x[last]} * double{x[last]};
  sum = BlockSum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

// Adds the partial sums in a fixed order; launched with one block.
__global__ void SumPartialKernel(const double* partial, double* sum) {
  double mine = 0;
  for (int i = static_cast<int>(threadIdx.x); i < kSumBlocks; i += kSumThreads) mine += partial[i];
  mine = BlockSum(mine);
  if (threadIdx.x == 0) *sum += mine;
}

// Each thread handles at most one of the elements after the last whole pack, so the grid has at
// least that many threads.
LaunchShape ShapeFor(int64_t count, int pack) {
  return GridStride(CeilDivide<int64_t>(count, pack));
}

template <typename T>
void FillOnGpu(const Tensor& x, T value, Stream& stream) {
  LaunchKernel(CudaStream(stream), GridStride(x.numel()), FillKernel<T>, static_cast<T*>(x.data),
               value, x.numel());
}

template <typename From, typename To>
void CastOnGpu(const Cast& op, Stream& stream) {
  constexpr int kSize = kPack<__nv_bfloat16>;
  const From* x = op.x.as<From>();
  To* y = op.y.as<To>();
  const int64_t count = op.x.numel();
  if (Aligned(x, y)) {
    return LaunchKernel(CudaStream(stream), ShapeFor(count, kSize), CastKernel<From, To, kSize>, x,
                        y, count);
  }
  LaunchKernel(CudaStream(stream), ShapeFor(count, 1), CastKernel<From, To, 1>, x, y, count);
}

}  // namespace

void ComputeOnCuda(const Add& op, Stream& stream) {
  ForFloatType(op.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const T *a = op.a.as<T>(), *b = op.b.as<T>();
    T* y = op.y.as<T>();
    const int64_t count = op.y.numel();
    if (Aligned(a, b, y)) {
      return LaunchKernel(CudaStream(stream), ShapeFor(count, kPack<T>), AddKernel<T, kPack<T>>, a,
                          b, y, count);
    }
    LaunchKernel(CudaStream(stream), ShapeFor(count, 1), AddKernel<T, 1>, a, b, y, count);
  });
}

void ComputeOnCuda(const Fill& op, Stream& stream) {
  if (op.value == 0) {
    if (op.x.empty()) return;
    CUDA_CHECK(
        cudaMemsetAsync(op.x.data, 0, static_cast<size_t>(op.x.bytes()), CudaStream(stream)));
    return;
  }
  switch (op.x.dtype) {
    case DType::kFloat32:
      return FillOnGpu(op.x, static_cast<float>(op.value), stream);
    case DType::kFloat64:
      return FillOnGpu(op.x, op.value, stream);
    case DType::kInt32:
      return FillOnGpu(op.x, static_cast<int32_t>(op.value), stream);
    case DType::kInt64:
      return FillOnGpu(op.x, static_cast<int64_t>(op.value), stream);
    case DType::kBFloat16:
      return FillOnGpu(op.x, BFloat16::From(static_cast<float>(op.value)).bits, stream);
  }
}

void ComputeOnCuda(const Copy& op, Stream& stream) {
  if (op.x.empty()) return;
  CUDA_CHECK(cudaMemcpyAsync(op.y.data, op.x.data, static_cast<size_t>(op.x.bytes()),
                             cudaMemcpyDeviceToDevice, CudaStream(stream)));
}

void ComputeOnCuda(const Cast& op, Stream& stream) {
  if (op.x.dtype == DType::kFloat32) return CastOnGpu<float, __nv_bfloat16>(op, stream);
  CastOnGpu<__nv_bfloat16, float>(op, stream);
}

void ComputeOnCuda(const SumOfSquares& op, Stream& stream) {
  auto* partial = static_cast<double*>(ScratchOf(stream).data);
  LaunchKernel(CudaStream(stream), {.grid = dim3(kSumBlocks), .block = dim3(kSumThreads)},
               Aligned(op.x.as<float>()) ? SumOfSquaresKernel<true> : SumOfSquaresKernel<false>,
               op.x.as<float>(), op.x.numel(), partial);
  LaunchKernel(CudaStream(stream), {.grid = dim3(1), .block = dim3(kSumThreads)}, SumPartialKernel,
               partial, op.sum.as<double>());
}

}  // namespace unipool
