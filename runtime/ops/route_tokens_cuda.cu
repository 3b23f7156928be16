// Routing in one launch, from logits to scores, choices, gates and counts. A warp processes one
// token with its row of logits.
#include "runtime/ops/route_tokens.h"

#include "runtime/ops/expert_row_cuda.h"

namespace unipool {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr float kTiny = 1e-20f;

using Count = unsigned long long;  // the 64-bit integer type of atomicAdd

struct Routing {
  float c;
  float eps;
  const float* logits;
  const float* scale;  // kNorm only
  const float* bias;   // or null
  float* scores;
  int32_t* ids;
  float* gates;
  float* gate_sums;  // null if gates are not normalized
  Count* counts;
  int64_t tokens;
  int experts;
  int k;  // 0 if only scores are computed
};

// In double, so that no finite logits overflow and only a row of zeros has norm 0.
template <typename Row>
__device__ __forceinline__ void NormScores(const Routing& op, Row& row) {
  double sum = 0;
  row.ForEach([&](int, int i) { sum += double{row[i]} * double{row[i]}; });
  const double norm = sqrt(WarpSum(sum)), scale = double{op.scale[0]} * double{op.c};
  const float factor = norm == 0 ? 0.0f : static_cast<float>(scale / (norm + double{op.eps}));
  row.ForEach([&](int, int i) { row[i] = factor * (row[i] > 0 ? row[i] : 0.0f); });
}

template <typename Row>
__device__ __forceinline__ void SoftmaxScores(Row& row) {
  float largest = -INFINITY, sum = 0;
  row.ForEach([&](int, int i) { largest = fmaxf(largest, row[i]); });
  largest = WarpMax(largest);
  row.ForEach([&](int, int i) {
    row[i] = expf(row[i] - largest);
    sum += row[i];
  });
  const float scale = 1.0f / WarpSum(sum);
  row.ForEach([&](int, int i) { row[i] *= scale; });
}

template <ScoreKind kKind, typename Row>
__device__ __forceinline__ void Score(const Routing& op, Row& row) {
  if constexpr (kKind == ScoreKind::kNorm) {
    NormScores(op, row);
  } else if constexpr (kKind == ScoreKind::kSoftmax) {
    SoftmaxScores(row);
  } else {
    row.ForEach([&](int, int i) { row[i] = 1.0f / (1.0f + expf(-row[i])); });
  }
}

// Choices are written in batches of 32, one per lane. The last batch is written when the sum of all
// gates is known; the gates of earlier batches are normalized afterwards.
template <typename Row, typename Counts>
__device__ __forceinline__ void Choose(const Routing& op, int64_t t, Row& row, Counts* counts) {
  typename Row::Choices choices(row, op.bias);
  const bool normalizes = op.gate_sums != nullptr;
  int32_t* ids = op.ids + t * op.k;
  float* gates = op.gates + t * op.k;
  const int last_batch = (op.k - 1) / kWarp * kWarp;
  float sum = 0;
  for (int begin = 0; begin < op.k; begin += kWarp) {
    const int end = begin + kWarp < op.k ? begin + kWarp : op.k;
    Choice mine = {0, 0, 0.0f};
    for (int j = begin; j < end; ++j) {
      const Choice choice = choices.Next();
      sum += choice.score;
      if (j - begin == LaneId()) mine = choice;
    }
    const int j = begin + LaneId();
    if (j >= end) continue;
    ids[j] = mine.expert;
    gates[j] = normalizes && begin == last_batch ? mine.score / (sum + kTiny) : mine.score;
    atomicAdd(counts + mine.expert, Counts{1});
  }
  if (!normalizes) return;
  for (int j = LaneId(); j < last_batch; j += kWarp) gates[j] /= sum + kTiny;
  if (LaneId() == 0) op.gate_sums[t] = sum + kTiny;
}

template <ScoreKind kKind, typename Row, typename Counts>
__device__ __forceinline__ void RouteAll(const Routing& op, Counts* counts) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * kWarps;
  for (int64_t t = static_cast<int64_t>(blockIdx.x) * kWarps + WarpId(); t < op.tokens;
       t += stride) {
    Row row(op.scores + t * op.experts, op.experts);
    row.Load(op.logits + t * op.experts);
    Score<kKind>(op, row);
    row.Store();
    if (op.k > 0) Choose(op, t, row, counts);
  }
}

// Integer sums do not depend on their order, so they may be atomic. Requesting one block per
// multiprocessor keeps ptxas from spilling registers to fit more blocks.
template <ScoreKind kKind, typename Row>
__global__ void __launch_bounds__(kThreads, 1) RouteKernel(Routing op) {
  if constexpr (Row::kMax == 0) {
    RouteAll<kKind, Row>(op, op.counts);
  } else {
    __shared__ int counts[Row::kMax];
    for (int e = static_cast<int>(threadIdx.x); e < Row::kMax; e += kThreads) counts[e] = 0;
    __syncthreads();
    RouteAll<kKind, Row>(op, counts);
    __syncthreads();
    for (int e = static_cast<int>(threadIdx.x); e < Row::kMax; e += kThreads) {
      if (counts[e] > 0) atomicAdd(op.counts + e, static_cast<Count>(counts[e]));
    }
  }
}

template <ScoreKind kKind>
void Launch(const Routing& op, Stream& stream) {
  // Enough blocks to fill a GPU, but few, because each adds its counts to the totals at the end.
  constexpr unsigned kMaxBlocks = 1024;
  LaunchShape shape = GridStride(op.tokens * kWarp, kThreads);
  if (shape.grid.x > kMaxBlocks) shape.grid.x = kMaxBlocks;
  ForRow(op.experts, [&](auto tag) {
    using Row = typename decltype(tag)::Type;
    LaunchKernel(CudaStream(stream), shape, RouteKernel<kKind, Row>, op);
  });
}

}  // namespace

void ComputeOnCuda(const RouteTokens& op, Stream& stream) {
  const bool chooses = !op.ids.absent();
  const Routing routing{
      .c = op.c,
      .eps = op.eps,
      .logits = op.logits.as<float>(),
      .scale = op.scale.absent() ? nullptr : op.scale.as<float>(),
      .bias = op.bias.absent() ? nullptr : op.bias.as<float>(),
      .scores = op.scores.as<float>(),
      .ids = chooses ? op.ids.as<int32_t>() : nullptr,
      .gates = chooses ? op.gates.as<float>() : nullptr,
      .gate_sums = op.gate_sums.absent() ? nullptr : op.gate_sums.as<float>(),
      .counts = chooses ? reinterpret_cast<Count*>(op.counts.as<int64_t>()) : nullptr,
      .tokens = op.logits.dim(0),
      .experts = static_cast<int>(op.logits.dim(1)),
      .k = chooses ? static_cast<int>(op.ids.dim(1)) : 0};
  switch (op.kind) {
    case ScoreKind::kNorm:
      return Launch<ScoreKind::kNorm>(routing, stream);
    case ScoreKind::kSoftmax:
      return Launch<ScoreKind::kSoftmax>(routing, stream);
    case ScoreKind::kSigmoid:
      return Launch<ScoreKind::kSigmoid>(routing, stream);
  }
}

}  // namespace unipool
