// A warp has a token. Scores and gates are float32 whatever the model's type.
#include "runtime/ops/top_k.h"

#include "runtime/ops/check_ids_cuda.h"

namespace unipool {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;

using Count = unsigned long long;  // what atomicAdd takes for int64

__device__ __forceinline__ int64_t FirstToken() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + WarpId();
}
__device__ __forceinline__ int64_t TokenStride() {
  return static_cast<int64_t>(gridDim.x) * kWarps;
}

// Few enough blocks that their counts of experts, added at the end, cost little.
LaunchShape ShapeFor(int64_t tokens) {
  constexpr unsigned kMostBlocks = 512;
  LaunchShape shape = GridStride(tokens * kWarp, kThreads);
  if (shape.grid.x > kMostBlocks) shape.grid.x = kMostBlocks;
  return shape;
}

// Orders by score, NaN too (first or last, by its sign), then by lowest expert. Adding zero makes
// -0 equal to +0. Never 0, which is below every choice.
__device__ __forceinline__ uint64_t ChoiceOf(float score, int expert) {
  const int32_t bits = __float_as_int(score + 0.0f);
  const int32_t key = bits ^ ((bits >> 31) & 0x7fffffff);
  const uint32_t order = static_cast<uint32_t>(key) ^ 0x80000000u;
  return uint64_t{order > 0 ? order : 1u} << 32 | (0xffffffffu - static_cast<uint32_t>(expert));
}
__device__ __forceinline__ int ExpertOf(uint64_t choice) {
  return static_cast<int>(0xffffffffu - static_cast<uint32_t>(choice));
}

struct Choice {
  const float* scores;
  const float* bias;  // or null
  int32_t* ids;
  float* gates;
  Count* counts;
  int64_t tokens;
  int experts;
  int k;
};

// One scan a choice, for the best after the one before.
__device__ void ChooseForToken(const Choice& op, int64_t t, int* counts) {
  const float* scores = op.scores + t * op.experts;
  uint64_t before = ~uint64_t{0};
  for (int j = 0; j < op.k; ++j) {
    uint64_t best = 0;
    for (int e = LaneId(); e < op.experts; e += kWarp) {
      const float bias = op.bias == nullptr ? 0.0f : op.bias[e];
      const uint64_t choice = ChoiceOf(scores[e] + bias, e);
      if (choice < before && choice > best) best = choice;
    }
    before = WarpMax(best);
    if (LaneId() != 0) continue;
    const int expert = ExpertOf(before);
    op.ids[t * op.k + j] = expert;
    op.gates[t * op.k + j] = scores[expert];
    atomicAdd(counts + expert, 1);
  }
}

// Sums of integers do not depend on their order, so they may be atomic.
__global__ void __launch_bounds__(kThreads) TopKKernel(Choice op) {
  int* counts = DynamicShared<int>();
  for (int e = static_cast<int>(threadIdx.x); e < op.experts; e += kThreads) counts[e] = 0;
  __syncthreads();
  for (int64_t t = FirstToken(); t < op.tokens; t += TokenStride()) ChooseForToken(op, t, counts);
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < op.experts; e += kThreads) {
    if (counts[e] > 0) atomicAdd(op.counts + e, static_cast<Count>(counts[e]));
  }
}

struct Gradient {
  const int32_t* ids;
  const float* dgates;
  const float* column;
  float* dscores;
  int64_t tokens;
  int experts;
  int k;
};

__global__ void __launch_bounds__(kThreads) ScoresGradientKernel(Gradient op) {
  for (int64_t t = FirstToken(); t < op.tokens; t += TokenStride()) {
    for (int first = 0; first < op.experts; first += kWarp) {
      const int e = first + LaneId();
      float sum = e < op.experts ? op.column[e] : 0.0f;
      for (int64_t j = t * op.k; j < (t + 1) * op.k; ++j) {
        const int64_t id = CheckedId("scores_gradient", op.ids[j], j, op.experts);
        if (id == e) sum += op.dgates[j];
      }
      if (e < op.experts) op.dscores[t * op.experts + e] = sum;
    }
  }
}

// A block has kColumns columns; its threads take every kRows-th token.
constexpr int kColumns = 8;
constexpr int kRows = 1024 / kColumns;

__global__ void __launch_bounds__(kColumns* kRows)
    ColumnSumsKernel(const float* scores, double* sums, int64_t tokens, int experts) {
  double* of_rows = DynamicShared<double>();
  const int column = static_cast<int>(threadIdx.x) % kColumns;
  const int row = static_cast<int>(threadIdx.x) / kColumns;
  const int e = static_cast<int>(blockIdx.x) * kColumns + column;
  double sum = 0;
  if (e < experts) {
#pragma unroll 8
    for (int64_t t = row; t < tokens; t += kRows) sum += double{scores[t * experts + e]};
  }
  of_rows[threadIdx.x] = sum;
  __syncthreads();
  for (int half = kRows / 2; half > 0; half /= 2) {
    if (row < half)
      of_rows[threadIdx.x] += of_rows[threadIdx.x + static_cast<unsigned>(half * kColumns)];
    __syncthreads();
  }
  if (row == 0 && e < experts) sums[e] += of_rows[column];
}

__global__ void __launch_bounds__(kThreads)
    CountUnroutedKernel(const float* gates, int64_t tokens, int64_t k, Count* count) {
  int unrouted = 0;
  for (int64_t t = GlobalThread(); t < tokens; t += GridThreads()) {
    unrouted += gates[t * k] <= 0 ? 1 : 0;
  }
  unrouted = BlockSum(unrouted);
  if (threadIdx.x == 0 && unrouted > 0) atomicAdd(count, static_cast<Count>(unrouted));
}

}  // namespace

void ComputeOnCuda(const TopK& op, Stream& stream) {
  LaunchShape shape = ShapeFor(op.scores.dim(0));
  shape.shared_bytes = static_cast<size_t>(op.scores.dim(1)) * sizeof(int);
  LaunchKernel(CudaStream(stream), shape, TopKKernel,
               Choice{.scores = op.scores.as<float>(),
                      .bias = op.bias.absent() ? nullptr : op.bias.as<float>(),
                      .ids = op.ids.as<int32_t>(),
                      .gates = op.gates.as<float>(),
                      .counts = reinterpret_cast<Count*>(op.counts.as<int64_t>()),
                      .tokens = op.scores.dim(0),
                      .experts = static_cast<int>(op.scores.dim(1)),
                      .k = static_cast<int>(op.ids.dim(1))});
}

void ComputeOnCuda(const ScoresGradient& op, Stream& stream) {
  LaunchKernel(CudaStream(stream), ShapeFor(op.dscores.dim(0)), ScoresGradientKernel,
               Gradient{.ids = op.ids.as<int32_t>(),
                        .dgates = op.dgates.as<float>(),
                        .column = op.column.as<float>(),
                        .dscores = op.dscores.as<float>(),
                        .tokens = op.dscores.dim(0),
                        .experts = static_cast<int>(op.dscores.dim(1)),
                        .k = static_cast<int>(op.ids.dim(1))});
}

void ComputeOnCuda(const ColumnSums& op, Stream& stream) {
  const int experts = static_cast<int>(op.scores.dim(1));
  LaunchKernel(CudaStream(stream),
               {.grid = dim3(static_cast<unsigned>(CeilDivide(experts, kColumns))),
                .block = dim3(kColumns * kRows),
                .shared_bytes = kColumns * kRows * sizeof(double)},
               ColumnSumsKernel, op.scores.as<float>(), op.sums.as<double>(), op.scores.dim(0),
               experts);
}

void ComputeOnCuda(const CountUnrouted& op, Stream& stream) {
  LaunchKernel(CudaStream(stream), ShapeFor(op.gates.dim(0)), CountUnroutedKernel,
               op.gates.as<float>(), op.gates.dim(0), op.gates.dim(1),
               reinterpret_cast<Count*>(op.count.as<int64_t>()));
}

}  // namespace unipool
