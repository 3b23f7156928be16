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
template <typename Counts>
__device__ void ChooseForToken(const Choice& op, int64_t t, Counts* counts) {
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
    atomicAdd(counts + expert, Counts{1});
  }
}

// With so many experts as words of a vocabulary, which shared memory does not count.
__global__ void __launch_bounds__(kThreads) TopKOfManyKernel(Choice op) {
  for (int64_t t = FirstToken(); t < op.tokens; t += TokenStride()) {
    ChooseForToken(op, t, op.counts);
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

// Sums of columns: a block has a warp's width of columns of a piece of the tokens, and its warps
// take the piece's tokens in turn.
constexpr int kPieceTokens = 256, kMostPieces = 128;

struct Columns {
  const float* scores;
  double* of_pieces;  // [pieces, experts]
  double* sums;
  int64_t tokens;
  int64_t piece_tokens;
  int pieces;
  int experts;
};

__global__ void __launch_bounds__(kThreads) SumPieceKernel(Columns op) {
  __shared__ double of_warps[kWarps][kWarp];
  const int e = static_cast<int>(blockIdx.x) * kWarp + LaneId();
  const int64_t begin = blockIdx.y * op.piece_tokens;
  const int64_t end = begin + op.piece_tokens < op.tokens ? begin + op.piece_tokens : op.tokens;
  double sum = 0;
  if (e < op.experts) {
#pragma unroll 8
    for (int64_t t = begin + WarpId(); t < end; t += kWarps) {
      sum += double{op.scores[t * op.experts + e]};
    }
  }
  of_warps[WarpId()][LaneId()] = sum;
  __syncthreads();
  if (WarpId() != 0 || e >= op.experts) return;
  for (int warp = 1; warp < kWarps; ++warp) sum += of_warps[warp][LaneId()];
  op.of_pieces[static_cast<int64_t>(blockIdx.y) * op.experts + e] = sum;
}

__global__ void __launch_bounds__(kThreads) SumPiecesKernel(Columns op) {
  const int64_t e = GlobalThread();
  if (e >= op.experts) return;
  double sum = 0;
#pragma unroll 8
  for (int piece = 0; piece < op.pieces; ++piece) sum += op.of_pieces[piece * op.experts + e];
  op.sums[e] += sum;
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
  constexpr int64_t kMostInShared = 8192;
  const bool many = op.scores.dim(1) > kMostInShared;
  LaunchShape shape = ShapeFor(op.scores.dim(0));
  if (!many) shape.shared_bytes = static_cast<size_t>(op.scores.dim(1)) * sizeof(int);
  LaunchKernel(CudaStream(stream), shape, many ? TopKOfManyKernel : TopKKernel,
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
  const int64_t tokens = op.scores.dim(0), piece = CeilDivide<int64_t>(tokens, kMostPieces);
  Columns columns{.scores = op.scores.as<float>(),
                  .of_pieces = static_cast<double*>(ScratchOf(stream).data),
                  .sums = op.sums.as<double>(),
                  .tokens = tokens,
                  .piece_tokens = piece > kPieceTokens ? piece : kPieceTokens,
                  .pieces = 0,
                  .experts = static_cast<int>(op.scores.dim(1))};
  columns.pieces = static_cast<int>(CeilDivide(tokens, columns.piece_tokens));
  LaunchKernel(CudaStream(stream),
               {.grid = dim3(static_cast<unsigned>(CeilDivide(columns.experts, kWarp)),
                             static_cast<unsigned>(columns.pieces)),
                .block = dim3(kThreads)},
               SumPieceKernel, columns);
  LaunchKernel(CudaStream(stream), GridStride(columns.experts, kThreads), SumPiecesKernel, columns);
}

void ComputeOnCuda(const CountUnrouted& op, Stream& stream) {
  LaunchKernel(CudaStream(stream), ShapeFor(op.gates.dim(0)), CountUnroutedKernel,
               op.gates.as<float>(), op.gates.dim(0), op.gates.dim(1),
               reinterpret_cast<Count*>(op.count.as<int64_t>()));
}

}  // namespace unipool
