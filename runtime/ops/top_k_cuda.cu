// Top-k choice and sums over tokens. A warp processes one token. Scores and gates are float32,
// whatever the type of the model.
#include "runtime/ops/top_k.h"

#include "runtime/ops/check_ids_cuda.h"
#include "runtime/ops/expert_row_cuda.h"

namespace unipool {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;

using Count = unsigned long long;  // the 64-bit integer type of atomicAdd

__device__ __forceinline__ int64_t FirstToken() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + WarpId();
}
__device__ __forceinline__ int64_t TokenStride() {
  return static_cast<int64_t>(gridDim.x) * kWarps;
}

// A warp chooses the k largest scores of a token, one scan of the row for each choice.
__global__ void __launch_bounds__(kThreads)
    TopKKernel(float* scores, int32_t* ids, float* values, int64_t tokens, int count, int k) {
  for (int64_t t = FirstToken(); t < tokens; t += TokenStride()) {
    MemoryRow row(scores + t * count, count);
    MemoryRow::Choices choices(row, nullptr);
    for (int j = 0; j < k; ++j) {
      const Choice choice = choices.Next();
      if (LaneId() != 0) continue;
      ids[t * k + j] = choice.expert;
      values[t * k + j] = choice.score;
    }
  }
}

// Column sums in two kernels: a block sums 32 columns over one range of tokens, its warps taking
// the tokens of the range in turn; then the partial sums of the ranges are added in order.
constexpr int kPieceTokens = 256, kMaxPieces = 128;

struct Columns {
  const float* scores;
  double* of_pieces;  // [pieces, experts], in scratch memory
  double* sums;
  int64_t tokens;
  int64_t piece_tokens;
  int pieces;
  int experts;
};

// Block (x, y) sums columns 32 x .. 32 x + 31 over the tokens of range y.
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

// A thread adds the partial sums of one column in order.
__global__ void __launch_bounds__(kThreads) SumPiecesKernel(Columns op) {
  const int64_t e = GlobalThread();
  if (e >= op.experts) return;
  double sum = 0;
#pragma unroll 8
  for (int piece = 0; piece < op.pieces; ++piece) sum += op.of_pieces[piece * op.experts + e];
  op.sums[e] += sum;
}

struct Unrouted {
  const int32_t* ids;
  const float* gates;
  Count* tokens;
  Count* choices;
  int64_t num_choices;  // tokens * k
  int64_t k;
  int64_t experts;
};

// Each thread handles one choice at a time. Lanes with the same expert add their choices together,
// since most unrouted choices are of the lowest experts. Integer sums may be atomic.
__global__ void __launch_bounds__(kThreads) CountUnroutedKernel(Unrouted op) {
  int tokens = 0;
  for (int64_t first = GlobalThread() - LaneId(); first < op.num_choices; first += GridThreads()) {
    const int64_t i = first + LaneId();
    const bool inside = i < op.num_choices;
    if (inside && i % op.k == 0 && op.gates[i] <= 0) ++tokens;
    const bool counts = inside && op.gates[i] == 0;
    const int id =
        counts ? static_cast<int>(CheckedId("count_unrouted", op.ids[i], i, op.experts)) : -1;
    const unsigned same = __match_any_sync(kAllLanes, id);
    const bool first_of_them = (same & ((1u << LaneId()) - 1)) == 0;
    if (counts && first_of_them) atomicAdd(op.choices + id, static_cast<Count>(__popc(same)));
  }
  tokens = BlockSum(tokens);
  if (threadIdx.x == 0 && tokens > 0) atomicAdd(op.tokens, static_cast<Count>(tokens));
}

}  // namespace

void ComputeOnCuda(const TopK& op, Stream& stream) {
  const int64_t tokens = op.scores.dim(0);
  LaunchKernel(CudaStream(stream), GridStride(tokens * kWarp, kThreads), TopKKernel,
               op.scores.as<float>(), op.ids.as<int32_t>(), op.values.as<float>(), tokens,
               static_cast<int>(op.scores.dim(1)), static_cast<int>(op.ids.dim(1)));
}

void ComputeOnCuda(const ColumnSums& op, Stream& stream) {
  const int64_t tokens = op.scores.dim(0), piece = CeilDivide<int64_t>(tokens, kMaxPieces);
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
  LaunchKernel(CudaStream(stream), GridStride(op.gates.numel(), kThreads), CountUnroutedKernel,
               Unrouted{.ids = op.ids.as<int32_t>(),
                        .gates = op.gates.as<float>(),
                        .tokens = reinterpret_cast<Count*>(op.tokens.as<int64_t>()),
                        .choices = reinterpret_cast<Count*>(op.choices.as<int64_t>()),
                        .num_choices = op.gates.numel(),
                        .k = op.gates.dim(1),
                        .experts = op.choices.numel()});
}

}  // namespace unipool
