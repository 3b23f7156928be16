// Kernels of the load-balance ops. The sums use one block, because there are only a few numbers for
// each expert.
#include "runtime/kernel_cuda.h"
#include "runtime/ops/load_balance.h"

namespace unipool {
namespace {

constexpr int kThreads = 256;
constexpr LaunchShape kOneBlock{.grid = dim3(1), .block = dim3(kThreads)};

__global__ void __launch_bounds__(kThreads)
    AccumulateCountsKernel(int64_t* counts, int64_t* step, int64_t* previous, int64_t size) {
  for (int64_t i = GlobalThread(); i < size; i += GridThreads()) {
    step[i] += counts[i];
    previous[i] = counts[i];
    counts[i] = 0;
  }
}

__device__ __forceinline__ int64_t CountOf(const int64_t* counts, int e, int layers, int experts) {
  int64_t count = 0;
  for (int l = 0; l < layers; ++l) count += counts[static_cast<int64_t>(l) * experts + e];
  return count;
}

// One block: sums all counts, then writes the share of each expert.
__global__ void __launch_bounds__(kThreads)
    LoadSharesKernel(const int64_t* counts, double factor, double* shares, int layers,
                     int experts) {
  int64_t total = 0;
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kThreads) {
    total += CountOf(counts, e, layers, experts);
  }
  total = BlockSum(total);
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kThreads) {
    const auto count = static_cast<double>(CountOf(counts, e, layers, experts));
    const double share = total > 0 ? count / static_cast<double>(total) : 1.0 / experts;
    shares[e] = share * factor;
  }
}

// One block: adds both losses and writes the gradient of each expert's scores.
__global__ void __launch_bounds__(kThreads)
    BalanceLossKernel(const double* sums, const double* weights, double* losses,
                      float* score_gradient, int experts) {
  double first = 0, second = 0;
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += kThreads) {
    const double a = weights[e], b = weights[experts + e];
    first += sums[e] * a;
    second += sums[e] * b;
    score_gradient[e] = static_cast<float>(a + b);
  }
  first = BlockSum(first);
  second = BlockSum(second);
  if (threadIdx.x != 0) return;
  losses[0] += first;
  losses[1] += second;
}

}  // namespace

void ComputeOnCuda(const AccumulateCounts& op, Stream& stream) {
  LaunchKernel(CudaStream(stream), GridStride(op.counts.numel(), kThreads), AccumulateCountsKernel,
               op.counts.as<int64_t>(), op.step.as<int64_t>(), op.previous.as<int64_t>(),
               op.counts.numel());
}

void ComputeOnCuda(const LoadShares& op, Stream& stream) {
  LaunchKernel(CudaStream(stream), kOneBlock, LoadSharesKernel, op.counts.as<int64_t>(), op.factor,
               op.shares.as<double>(), op.counts.dim(0), op.counts.dim(1));
}

void ComputeOnCuda(const BalanceLoss& op, Stream& stream) {
  LaunchKernel(CudaStream(stream), kOneBlock, BalanceLossKernel, op.column_sums.as<double>(),
               op.weights.as<double>(), op.losses.as<double>(), op.score_gradient.as<float>(),
               op.column_sums.numel());
}

}  // namespace unipool
