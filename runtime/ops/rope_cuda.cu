// Rotary position embedding: the table of cosines and sines, and the rotation in place.
#include "runtime/ops/rope.h"

#include <algorithm>

#include "runtime/kernel_cuda.h"

namespace unipool {
namespace {

// A thread computes the cosine and sine of one position and pair, in double.
__global__ void TableKernel(float* table, double base, int64_t positions, int64_t half) {
  for (int64_t i = GlobalThread(); i < positions * half; i += GridThreads()) {
    const int64_t p = i / half, j = i % half;
    const double exponent = -static_cast<double>(j) / static_cast<double>(half);
    const double angle = static_cast<double>(p) * pow(base, exponent);
    table[p * 2 * half + j] = static_cast<float>(cos(angle));
    table[p * 2 * half + half + j] = static_cast<float>(sin(angle));
  }
}

template <typename T>
struct Rotation {
  T* x;
  const float* table;
  int64_t tokens;
  int64_t columns;
  int64_t sequence;
  int heads;
  int half;
  float direction;
};

// Rotates x in place. A block processes one row at a time; a thread rotates kSize pairs of one
// head.
template <typename T, int kSize>
__global__ void RotateKernel(Rotation<T> op) {
  const int packs = op.half / kSize;
  for (int64_t t = blockIdx.x; t < op.tokens; t += gridDim.x) {
    const float* cosines = op.table + t % op.sequence * 2 * op.half;
    for (int i = static_cast<int>(threadIdx.x); i < op.heads * packs;
         i += static_cast<int>(blockDim.x)) {
      const int head = i / packs, j = i % packs * kSize;
      T* x = op.x + t * op.columns + static_cast<int64_t>(head) * 2 * op.half + j;
      auto first = LoadPack<T, kSize>(x), second = LoadPack<T, kSize>(x + op.half);
#pragma unroll
      for (int k = 0; k < kSize; ++k) {
        const float cosine = cosines[j + k], sine = op.direction * cosines[op.half + j + k];
        const float a = ToFloat(first.values[k]), b = ToFloat(second.values[k]);
        first.values[k] = FromFloat<T>(a * cosine - b * sine);
        second.values[k] = FromFloat<T>(b * cosine + a * sine);
      }
      StorePack(x, first);
      StorePack(x + op.half, second);
    }
  }
}

}  // namespace

void ComputeOnCuda(const RopeTable& op, Stream& stream) {
  const int64_t positions = op.table.dim(0), half = op.table.dim(1) / 2;
  LaunchKernel(CudaStream(stream), GridStride(positions * half), TableKernel, op.table.as<float>(),
               op.base, positions, half);
}

void ComputeOnCuda(const Rope& op, Stream& stream) {
  constexpr int64_t kMaxBlocks = 16384;
  constexpr unsigned kThreads = 128;
  ForFloatType(op.x.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const Rotation<T> rotation{.x = op.x.as<T>(),
                               .table = op.table.as<float>(),
                               .tokens = op.x.dim(0),
                               .columns = op.x.dim(1),
                               .sequence = op.sequence,
                               .heads = static_cast<int>(op.heads),
                               .half = static_cast<int>(op.table.dim(1) / 2),
                               .direction = op.inverse ? -1.0f : 1.0f};
    const LaunchShape shape{
        .grid = dim3(static_cast<unsigned>(std::min(rotation.tokens, kMaxBlocks))),
        .block = dim3(kThreads)};
    if (Aligned(rotation.x) && rotation.half % kPack<T> == 0 && rotation.columns % kPack<T> == 0) {
      return LaunchKernel(CudaStream(stream), shape, RotateKernel<T, kPack<T>>, rotation);
    }
    LaunchKernel(CudaStream(stream), shape, RotateKernel<T, 1>, rotation);
  });
}

}  // namespace unipool
