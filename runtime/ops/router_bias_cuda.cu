// Update of the router bias; one block for all experts.
#include "runtime/ops/router_bias.h"

#include "runtime/kernel_cuda.h"

namespace unipool {
namespace {

// Launched with one block of threads.
__global__ void MoveBiasKernel(const int64_t* counts, float rate, float* bias, int experts) {
  const int first = static_cast<int>(threadIdx.x), stride = static_cast<int>(blockDim.x);
  int64_t total = 0;
  for (int e = first; e < experts; e += stride) total += counts[e];
  total = BlockSum(total);
  for (int e = first; e < experts; e += stride) {
    const int64_t below_mean = total - counts[e] * experts;
    if (below_mean > 0) bias[e] += rate;
    if (below_mean < 0) bias[e] -= rate;
  }
}

}  // namespace

void ComputeOnCuda(const MoveRouterBias& op, Stream& stream) {
  const int experts = static_cast<int>(op.counts.dim(0));
  LaunchKernel(CudaStream(stream), {.grid = dim3(1), .block = dim3(256)}, MoveBiasKernel,
               op.counts.as<int64_t>(), op.rate, op.bias.as<float>(), experts);
}

}  // namespace unipool
