// A warp has a token. Scores and logits are float32 whatever the model's type.
#include "runtime/ops/router_scores.h"

#include "runtime/kernel_cuda.h"

namespace unipool {
namespace {

constexpr int kWarps = 16;
constexpr int kThreads = kWarps * kWarp;
constexpr unsigned kParts = 64;

__device__ __forceinline__ int64_t FirstToken() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + WarpId();
}
__device__ __forceinline__ int64_t TokenStride() {
  return static_cast<int64_t>(gridDim.x) * kWarps;
}

LaunchShape ShapeFor(int64_t tokens) { return GridStride(tokens * kWarp, kThreads); }

__global__ void __launch_bounds__(kThreads)
    SoftmaxKernel(const float* logits, float* scores, int64_t tokens, int experts) {
  for (int64_t t = FirstToken(); t < tokens; t += TokenStride()) {
    const float* z = logits + t * experts;
    float* s = scores + t * experts;
    float largest = -INFINITY, sum = 0;
    for (int e = LaneId(); e < experts; e += kWarp) largest = fmaxf(largest, z[e]);
    largest = WarpMax(largest);
    for (int e = LaneId(); e < experts; e += kWarp) {
      const float exponential = expf(z[e] - largest);
      s[e] = exponential;
      sum += exponential;
    }
    const float scale = 1.0f / WarpSum(sum);
    for (int e = LaneId(); e < experts; e += kWarp) s[e] *= scale;
  }
}

__global__ void __launch_bounds__(kThreads)
    SoftmaxBackwardKernel(const float* dscores, const float* scores, float* dlogits, int64_t tokens,
                          int experts) {
  for (int64_t t = FirstToken(); t < tokens; t += TokenStride()) {
    const float* s = scores + t * experts;
    const float* ds = dscores + t * experts;
    float dot = 0;
    for (int e = LaneId(); e < experts; e += kWarp) dot += s[e] * ds[e];
    dot = WarpSum(dot);
    for (int e = LaneId(); e < experts; e += kWarp) {
      dlogits[t * experts + e] = s[e] * (ds[e] - dot);
    }
  }
}

// In double, so that no finite logits overflow and none but zeros give zero.
__device__ double Norm(const float* z, int experts) {
  double sum = 0;
  for (int e = LaneId(); e < experts; e += kWarp) sum += double{z[e]} * double{z[e]};
  return sqrt(WarpSum(sum));
}

struct NormForward {
  const float* logits;
  const float* scale;
  float c;
  float eps;
  float* scores;
  int64_t tokens;
  int experts;
};

__global__ void __launch_bounds__(kThreads) NormKernel(NormForward op) {
  const double scale = double{op.scale[0]} * double{op.c};
  for (int64_t t = FirstToken(); t < op.tokens; t += TokenStride()) {
    const float* z = op.logits + t * op.experts;
    const double norm = Norm(z, op.experts);
    const float factor = norm == 0 ? 0.0f : static_cast<float>(scale / (norm + double{op.eps}));
    for (int e = LaneId(); e < op.experts; e += kWarp) {
      op.scores[t * op.experts + e] = factor * (z[e] > 0 ? z[e] : 0.0f);
    }
  }
}

struct NormBackward {
  const float* dscores;
  const float* logits;
  const float* scale;
  float c;
  float eps;
  float* dlogits;
  double* parts;  // [kParts] sums over a part of the tokens
  int64_t tokens;
  int experts;
};

// Writes the token's dz and gives its sum_i ds_i max(0, z_i / (n+eps)).
__device__ double NormBackwardToken(const NormBackward& op, double scale, int64_t t) {
  const float* z = op.logits + t * op.experts;
  const float* ds = op.dscores + t * op.experts;
  const double norm = Norm(z, op.experts);
  double dot = 0;
  for (int e = LaneId(); e < op.experts; e += kWarp) {
    dot += double{ds[e]} * double{z[e] > 0 ? z[e] : 0.0f};
  }
  const double divisor = norm + double{op.eps}, dscale = norm == 0 ? 0 : WarpSum(dot) / divisor;
  const float direct = norm == 0 ? 0.0f : static_cast<float>(scale / divisor);
  const float through_norm = norm == 0 ? 0.0f : static_cast<float>(scale * dscale / divisor / norm);
  for (int e = LaneId(); e < op.experts; e += kWarp) {
    op.dlogits[t * op.experts + e] = direct * (z[e] > 0 ? ds[e] : 0.0f) - through_norm * z[e];
  }
  return dscale;
}

// A block has a part of the tokens, a warp every kWarps-th of them.
__global__ void __launch_bounds__(kThreads) NormBackwardKernel(NormBackward op) {
  const int64_t part = blockIdx.x, end = op.tokens * (part + 1) / gridDim.x;
  const double scale = double{op.scale[0]} * double{op.c};
  double sum = 0;
  for (int64_t t = op.tokens * part / gridDim.x + WarpId(); t < end; t += kWarps) {
    sum += NormBackwardToken(op, scale, t);
  }
  sum = BlockSum(LaneId() == 0 ? sum : 0.0);
  if (threadIdx.x == 0) op.parts[part] = sum;
}

__global__ void AddPartsKernel(const double* parts, float c, float* dscale) {
  double sum = 0;
  for (unsigned part = 0; part < kParts; ++part) sum += parts[part];
  if (threadIdx.x == 0) dscale[0] += static_cast<float>(double{c} * sum);
}

}  // namespace

void ComputeOnCuda(const SoftmaxScoresForward& op, Stream& stream) {
  const int64_t tokens = op.logits.dim(0);
  LaunchKernel(CudaStream(stream), ShapeFor(tokens), SoftmaxKernel, op.logits.as<float>(),
               op.scores.as<float>(), tokens, static_cast<int>(op.logits.dim(1)));
}

void ComputeOnCuda(const SoftmaxScoresBackward& op, Stream& stream) {
  const int64_t tokens = op.scores.dim(0);
  LaunchKernel(CudaStream(stream), ShapeFor(tokens), SoftmaxBackwardKernel, op.dscores.as<float>(),
               op.scores.as<float>(), op.dlogits.as<float>(), tokens,
               static_cast<int>(op.scores.dim(1)));
}

void ComputeOnCuda(const NormScoresForward& op, Stream& stream) {
  const NormForward arguments{.logits = op.logits.as<float>(),
                              .scale = op.scale.as<float>(),
                              .c = op.c,
                              .eps = op.eps,
                              .scores = op.scores.as<float>(),
                              .tokens = op.logits.dim(0),
                              .experts = static_cast<int>(op.logits.dim(1))};
  LaunchKernel(CudaStream(stream), ShapeFor(arguments.tokens), NormKernel, arguments);
}

void ComputeOnCuda(const NormScoresBackward& op, Stream& stream) {
  const NormBackward arguments{.dscores = op.dscores.as<float>(),
                               .logits = op.logits.as<float>(),
                               .scale = op.scale.as<float>(),
                               .c = op.c,
                               .eps = op.eps,
                               .dlogits = op.dlogits.as<float>(),
                               .parts = static_cast<double*>(ScratchOf(stream).data),
                               .tokens = op.logits.dim(0),
                               .experts = static_cast<int>(op.logits.dim(1))};
  LaunchKernel(CudaStream(stream), {.grid = dim3(kParts), .block = dim3(kThreads)},
               NormBackwardKernel, arguments);
  LaunchKernel(CudaStream(stream), {.grid = dim3(1), .block = dim3(kWarp)}, AddPartsKernel,
               arguments.parts, op.c, op.dscale.as<float>());
}

}  // namespace unipool
