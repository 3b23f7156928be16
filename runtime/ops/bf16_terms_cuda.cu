// Splits float32 into bfloat16 terms and sums products of terms; grid-stride loops over packs of
// four elements, or over single elements if sizes or alignment do not allow packs.
#include "runtime/ops/bf16_terms.h"

#include "runtime/kernel_cuda.h"

namespace unipool {
namespace {

struct Split {
  const float* x;
  __nv_bfloat16* y;
  int64_t count;
  int64_t columns;
  int blocks;
  int terms[SplitTerms::kMaxBlocks];
};

// A thread splits kSize elements at a time; `columns` is a multiple of kSize.
template <int kSize>
__global__ void SplitKernel(Split op) {
  for (int64_t i = GlobalThread(); i < op.count / kSize; i += GridThreads()) {
    const int64_t row = i * kSize / op.columns, column = i * kSize % op.columns;
    Pack<float, kSize> left = LoadPack<float, kSize>(op.x + i * kSize);
    Pack<__nv_bfloat16, kSize> parts[3];
#pragma unroll
    for (int term = 0; term < 3; ++term) {
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        parts[term].values[j] = FromFloat<__nv_bfloat16>(left.values[j]);
        left.values[j] -= ToFloat(parts[term].values[j]);
      }
    }
    __nv_bfloat16* y = op.y + row * op.blocks * op.columns + column;
    for (int b = 0; b < op.blocks; ++b, y += op.columns) {
      StorePack(y, op.terms[b] == 0 ? parts[0] : op.terms[b] == 1 ? parts[1] : parts[2]);
    }
  }
}

struct Sum {
  const float* x;
  float* y;
  int64_t count;
  int64_t columns;
  int64_t stride;
  bool accumulate;
};

// A thread sums the three blocks of kSize elements at a time; `columns` and `stride` are multiples
// of kSize.
template <int kSize>
__global__ void SumKernel(Sum op) {
  for (int64_t i = GlobalThread(); i < op.count / kSize; i += GridThreads()) {
    const int64_t row = i * kSize / op.columns, column = i * kSize % op.columns;
    const float* x = op.x + row * op.stride + column;
    const auto large = LoadPack<float, kSize>(x), middle = LoadPack<float, kSize>(x + op.columns),
               small = LoadPack<float, kSize>(x + 2 * op.columns);
    Pack<float, kSize> sum = {};
    if (op.accumulate) sum = LoadPack<float, kSize>(op.y + i * kSize);
#pragma unroll
    for (int j = 0; j < kSize; ++j) {
      sum.values[j] += (small.values[j] + middle.values[j]) + large.values[j];
    }
    StorePack(op.y + i * kSize, sum);
  }
}

}  // namespace

void ComputeOnCuda(const SplitTerms& op, Stream& stream) {
  Split split{.x = op.x.as<float>(),
              .y = op.y.as<__nv_bfloat16>(),
              .count = op.x.numel(),
              .columns = op.x.dim(1),
              .blocks = static_cast<int>(op.y.dim(1) / op.x.dim(1)),
              .terms = {}};
  for (int b = 0; b < SplitTerms::kMaxBlocks; ++b) split.terms[b] = op.terms[b];
  const bool packs = split.columns % 4 == 0 && Aligned(split.x, split.y);
  LaunchKernel(CudaStream(stream), GridStride(split.count / (packs ? 4 : 1)),
               packs ? SplitKernel<4> : SplitKernel<1>, split);
}

void ComputeOnCuda(const SumTerms& op, Stream& stream) {
  const Sum sum{.x = op.x.as<float>(),
                .y = op.y.as<float>(),
                .count = op.y.numel(),
                .columns = op.y.dim(1),
                .stride = op.x.dim(1),
                .accumulate = op.accumulate};
  const bool packs = sum.columns % 4 == 0 && sum.stride % 4 == 0 && Aligned(sum.x, sum.y);
  LaunchKernel(CudaStream(stream), GridStride(sum.count / (packs ? 4 : 1)),
               packs ? SumKernel<4> : SumKernel<1>, sum);
}

}  // namespace unipool
