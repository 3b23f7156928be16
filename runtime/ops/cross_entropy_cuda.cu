// Cross-entropy kernels. Each block processes one row of logits: it reads the row once for the loss
// and, for the gradient, a second time, when it is in the cache. All arithmetic is in float32,
// whatever the type of the logits.
#include "runtime/ops/check_ids_cuda.h"
#include "runtime/ops/cross_entropy.h"

namespace unipool {
namespace {

constexpr int kThreads = 512;

template <typename T>
struct Rows {
  T* logits;
  const int32_t* targets;
  float* losses;
  int64_t vocab;
  float scale;
};

// Maximum of a row and the sum of exp(logit - maximum).
struct RowSum {
  float largest;
  float sum;
};

// Returns the maximum and the sum of a row to all threads of the block, with a running maximum, so
// that the row is read once.
template <typename T, int kSize>
__device__ RowSum SumRow(const T* row, int64_t vocab) {
  float largest = -INFINITY, sum = 0;
  for (int64_t v = threadIdx.x * int64_t{kSize}; v < vocab; v += int64_t{kThreads} * kSize) {
    const auto pack = LoadPack<T, kSize>(row + v);
    float now = largest;
#pragma unroll
    for (int i = 0; i < kSize; ++i) now = fmaxf(now, ToFloat(pack.values[i]));
    if (now > largest) {
      sum *= expf(largest - now);
      largest = now;
    }
#pragma unroll
    for (int i = 0; i < kSize; ++i) sum += expf(ToFloat(pack.values[i]) - largest);
  }
  const float of_block = BlockMax(largest);
  return {of_block, BlockSum(sum * expf(largest - of_block))};
}

// Block t processes row t: writes the loss and, if kGradient, overwrites the row with its gradient.
// A thread reads packs of kSize logits.
template <typename T, int kSize, bool kGradient>
__global__ void __launch_bounds__(kThreads) CrossEntropyKernel(Rows<T> rows) {
  const int64_t t = blockIdx.x;
  T* row = rows.logits + t * rows.vocab;
  const int64_t target = CheckedId(kGradient ? "cross_entropy_gradient" : "cross_entropy_forward",
                                   rows.targets[t], t, rows.vocab);
  const float target_logit = ToFloat(row[target]);
  const RowSum sum = SumRow<T, kSize>(row, rows.vocab);
  if (threadIdx.x == 0) rows.losses[t] = logf(sum.sum) + (sum.largest - target_logit);
  if constexpr (!kGradient) return;
  const float factor = rows.scale / sum.sum;
  for (int64_t v = threadIdx.x * int64_t{kSize}; v < rows.vocab; v += int64_t{kThreads} * kSize) {
    auto pack = LoadPack<T, kSize>(row + v);
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const float gradient = factor * expf(ToFloat(pack.values[i]) - sum.largest);
      pack.values[i] = FromFloat<T>(v + i == target ? gradient - rows.scale : gradient);
    }
    StorePack(row + v, pack);
  }
}

template <typename T, bool kGradient, typename Op>
void Run(const Op& op, float scale, Stream& stream) {
  const Rows<T> rows{.logits = op.logits.template as<T>(),
                     .targets = op.targets.template as<int32_t>(),
                     .losses = op.losses.template as<float>(),
                     .vocab = op.logits.dim(1),
                     .scale = scale};
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(op.logits.dim(0))),
                          .block = dim3(kThreads)};
  const bool packs = rows.vocab % kPack<T> == 0 && Aligned(rows.logits);
  const auto kernel =
      packs ? CrossEntropyKernel<T, kPack<T>, kGradient> : CrossEntropyKernel<T, 1, kGradient>;
  LaunchKernel(CudaStream(stream), shape, kernel, rows);
}

constexpr int kSumThreads = 1024;

// One block sums all losses; there is only one number per token.
__global__ void __launch_bounds__(kSumThreads)
    SumLossesKernel(const float* losses, int64_t tokens, double weight, double* sum) {
  double mine = 0;
#pragma unroll 4
  for (int64_t t = threadIdx.x; t < tokens; t += kSumThreads) mine += double{losses[t]};
  mine = BlockSum(mine);
  if (threadIdx.x == 0) *sum += weight * mine;
}

}  // namespace

void ComputeOnCuda(const CrossEntropyForward& op, Stream& stream) {
  if (op.logits.dtype == DType::kBFloat16) return Run<__nv_bfloat16, false>(op, 0, stream);
  Run<float, false>(op, 0, stream);
}

void ComputeOnCuda(const CrossEntropyGradient& op, Stream& stream) {
  if (op.logits.dtype == DType::kBFloat16) return Run<__nv_bfloat16, true>(op, op.scale, stream);
  Run<float, true>(op, op.scale, stream);
}

void ComputeOnCuda(const SumLosses& op, Stream& stream) {
  LaunchKernel(CudaStream(stream), {.grid = dim3(1), .block = dim3(kSumThreads)}, SumLossesKernel,
               op.losses.as<float>(), op.losses.numel(), op.weight, op.sum.as<double>());
}

}  // namespace unipool
