#include "runtime/ops/sigmoid_router.h"

#include "runtime/kernel_cuda.h"

namespace unipool {
namespace {

constexpr float kTiny = 1e-20f;

__global__ void SigmoidKernel(const float* z, float* s, int64_t elements) {
  for (int64_t i = GlobalThread(); i < elements; i += GridThreads()) {
    s[i] = 1.0f / (1.0f + expf(-z[i]));
  }
}

__global__ void SigmoidBackwardKernel(const float* ds, const float* s, float* dz,
                                      int64_t elements) {
  for (int64_t i = GlobalThread(); i < elements; i += GridThreads()) {
    dz[i] = ds[i] * s[i] * (1.0f - s[i]);
  }
}

// A thread has a token: k is small.
__global__ void NormalizeKernel(float* gates, float* sums, int64_t tokens, int64_t k) {
  for (int64_t t = GlobalThread(); t < tokens; t += GridThreads()) {
    float sum = 0;
    for (int64_t j = t * k; j < (t + 1) * k; ++j) sum += gates[j];
    sum += kTiny;
    for (int64_t j = t * k; j < (t + 1) * k; ++j) gates[j] /= sum;
    sums[t] = sum;
  }
}

__global__ void NormalizeBackwardKernel(const float* gates, const float* sums, float* dgates,
                                        int64_t tokens, int64_t k) {
  for (int64_t t = GlobalThread(); t < tokens; t += GridThreads()) {
    float dot = 0;
    for (int64_t j = t * k; j < (t + 1) * k; ++j) dot += gates[j] * dgates[j];
    for (int64_t j = t * k; j < (t + 1) * k; ++j) dgates[j] = (dgates[j] - dot) / sums[t];
  }
}

// One block.
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

void ComputeOnCuda(const SigmoidScoresForward& op, Stream& stream) {
  const int64_t elements = op.logits.numel();
  LaunchKernel(CudaStream(stream), GridStride(elements), SigmoidKernel, op.logits.as<float>(),
               op.scores.as<float>(), elements);
}

void ComputeOnCuda(const SigmoidScoresBackward& op, Stream& stream) {
  const int64_t elements = op.scores.numel();
  LaunchKernel(CudaStream(stream), GridStride(elements), SigmoidBackwardKernel,
               op.dscores.as<float>(), op.scores.as<float>(), op.dlogits.as<float>(), elements);
}

void ComputeOnCuda(const NormalizeGates& op, Stream& stream) {
  const int64_t tokens = op.gates.dim(0);
  LaunchKernel(CudaStream(stream), GridStride(tokens), NormalizeKernel, op.gates.as<float>(),
               op.sums.as<float>(), tokens, op.gates.dim(1));
}

void ComputeOnCuda(const NormalizeGatesBackward& op, Stream& stream) {
  const int64_t tokens = op.gates.dim(0);
  LaunchKernel(CudaStream(stream), GridStride(tokens), NormalizeBackwardKernel,
               op.gates.as<float>(), op.sums.as<float>(), op.dgates.as<float>(), tokens,
               op.gates.dim(1));
}

void ComputeOnCuda(const MoveRouterBias& op, Stream& stream) {
  const int experts = static_cast<int>(op.counts.dim(0));
  LaunchKernel(CudaStream(stream), {.grid = dim3(1), .block = dim3(256)}, MoveBiasKernel,
               op.counts.as<int64_t>(), op.rate, op.bias.as<float>(), experts);
}

}  // namespace unipool
