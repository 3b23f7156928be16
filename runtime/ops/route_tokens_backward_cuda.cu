// Backward of routing. A warp processes one token with two rows: its saved logits or scores, and
// the gradient.
#include "runtime/ops/check_ids_cuda.h"
#include "runtime/ops/expert_row_cuda.h"
#include "runtime/ops/route_tokens.h"

namespace unipool {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;

struct Gradient {
  float c;
  float eps;
  const float* dgates;
  const float* score_gradient;
  float* saved;        // logits or scores; not modified
  const float* scale;  // kNorm only
  const int32_t* ids;
  const float* gates;      // null if gates are not normalized
  const float* gate_sums;  // the same
  float* dlogits;
  double* parts;  // kNorm only: dscale / c of each block's tokens
  int64_t tokens;
  int experts;
  int k;
};

// Sets d to the gradient of the token's scores.
template <typename Row>
__device__ __forceinline__ void ScoresGradient(const Gradient& op, int64_t t, Row& d) {
  d.Load(op.score_gradient);
  const int64_t begin = t * op.k, end = begin + op.k;
  const bool normalized = op.gate_sums != nullptr;
  float dot = 0;
#pragma unroll 1
  for (int64_t j = begin; normalized && j < end; ++j) dot += op.gates[j] * op.dgates[j];
#pragma unroll 1
  for (int64_t j = begin; j < end; ++j) {
    const int64_t id = CheckedId("route_tokens_backward", op.ids[j], j, op.experts);
    const float dgate = op.dgates[j];
    d.Add(static_cast<int>(id), normalized ? (dgate - dot) / op.gate_sums[t] : dgate);
  }
}

// In place: d is the gradient of the scores on entry, of the logits on return. Returns sum_i ds_i
// max(0, z_i / (n+eps)).
template <typename Row>
__device__ __forceinline__ double NormBackward(const Gradient& op, Row& z, Row& d) {
  double squares = 0, dot = 0;
  z.ForEach([&](int, int i) {
    squares += double{z[i]} * double{z[i]};
    dot += double{d[i]} * double{z[i] > 0 ? z[i] : 0.0f};
  });
  // In double, so that no finite logits overflow and only a row of zeros has norm 0.
  const double norm = sqrt(WarpSum(squares)), scale = double{op.scale[0]} * double{op.c};
  const double divisor = norm + double{op.eps}, dscale = norm == 0 ? 0 : WarpSum(dot) / divisor;
  const float direct = norm == 0 ? 0.0f : static_cast<float>(scale / divisor);
  const float through_norm = norm == 0 ? 0.0f : static_cast<float>(scale * dscale / divisor / norm);
  z.ForEach([&](int, int i) { d[i] = direct * (z[i] > 0 ? d[i] : 0.0f) - through_norm * z[i]; });
  return dscale;
}

template <typename Row>
__device__ __forceinline__ void SoftmaxBackward(Row& s, Row& d) {
  float dot = 0;
  s.ForEach([&](int, int i) { dot += s[i] * d[i]; });
  dot = WarpSum(dot);
  s.ForEach([&](int, int i) { d[i] = s[i] * (d[i] - dot); });
}

// The tokens of a block depend only on their number, so the parts have the same bits every time.
// Requesting one block per multiprocessor keeps ptxas from spilling registers to fit more blocks.
template <ScoreKind kKind, typename Row>
__global__ void __launch_bounds__(kThreads, 1) BackwardKernel(Gradient op) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kWarps;
  double part = 0;
  for (int64_t t = static_cast<int64_t>(blockIdx.x) * kWarps + WarpId(); t < op.tokens;
       t += stride) {
    Row saved(op.saved + t * op.experts, op.experts), d(op.dlogits + t * op.experts, op.experts);
    saved.Load(op.saved + t * op.experts);
    ScoresGradient(op, t, d);
    if constexpr (kKind == ScoreKind::kNorm) {
      part += NormBackward(op, saved, d);
    } else if constexpr (kKind == ScoreKind::kSoftmax) {
      SoftmaxBackward(saved, d);
    } else {
      d.ForEach([&](int, int i) { d[i] = d[i] * saved[i] * (1.0f - saved[i]); });
    }
    d.Store();
  }
  if constexpr (kKind == ScoreKind::kNorm) {
    part = BlockSum(LaneId() == 0 ? part : 0.0);
    if (threadIdx.x == 0) op.parts[blockIdx.x] = part;
  }
}

// dscale += c * sum of the parts; launched with one warp.
__global__ void AddPartsKernel(const double* parts, int count, float c, float* dscale) {
  double sum = 0;
  for (int part = LaneId(); part < count; part += kWarp) sum += parts[part];
  sum = WarpSum(sum);
  if (threadIdx.x == 0) dscale[0] += static_cast<float>(double{c} * sum);
}

LaunchShape ShapeFor(int64_t tokens) {
  constexpr unsigned kMaxBlocks = 1024;  // also the number of parts to add at the end
  LaunchShape shape = GridStride(tokens * kWarp, kThreads);
  if (shape.grid.x > kMaxBlocks) shape.grid.x = kMaxBlocks;
  return shape;
}

template <ScoreKind kKind>
void Launch(const Gradient& op, Stream& stream) {
  ForRow(op.experts, [&](auto tag) {
    using Row = typename decltype(tag)::Type;
    LaunchKernel(CudaStream(stream), ShapeFor(op.tokens), BackwardKernel<kKind, Row>, op);
  });
}

}  // namespace

void ComputeOnCuda(const RouteTokensBackward& op, Stream& stream) {
  const bool norm = op.kind == ScoreKind::kNorm;
  const Gradient gradient{.c = op.c,
                          .eps = op.eps,
                          .dgates = op.dgates.as<float>(),
                          .score_gradient = op.score_gradient.as<float>(),
                          .saved = norm ? op.logits.as<float>() : op.scores.as<float>(),
                          .scale = norm ? op.scale.as<float>() : nullptr,
                          .ids = op.ids.as<int32_t>(),
                          .gates = op.gates.absent() ? nullptr : op.gates.as<float>(),
                          .gate_sums = op.gate_sums.absent() ? nullptr : op.gate_sums.as<float>(),
                          .dlogits = op.dlogits.as<float>(),
                          .parts = norm ? static_cast<double*>(ScratchOf(stream).data) : nullptr,
                          .tokens = op.dlogits.dim(0),
                          .experts = static_cast<int>(op.dlogits.dim(1)),
                          .k = static_cast<int>(op.ids.dim(1))};
  switch (op.kind) {
    case ScoreKind::kNorm:
      Launch<ScoreKind::kNorm>(gradient, stream);
      return LaunchKernel(CudaStream(stream), {.grid = dim3(1), .block = dim3(kWarp)},
                          AddPartsKernel, gradient.parts,
                          static_cast<int>(ShapeFor(gradient.tokens).grid.x), op.c,
                          op.dscale.as<float>());
    case ScoreKind::kSoftmax:
      return Launch<ScoreKind::kSoftmax>(gradient, stream);
    case ScoreKind::kSigmoid:
      return Launch<ScoreKind::kSigmoid>(gradient, stream);
  }
}

}  // namespace unipool
