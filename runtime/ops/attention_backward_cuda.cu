// Attention backward without atomics, in two kernels. In the first a block has queries and sums
// over keys (dq); in the second a block has keys and sums over the queries of all heads that read
// them (dk, dv). Both recompute the gradient of the scores.
#include "runtime/ops/attention.h"
#include "runtime/ops/attention_plain_cuda.h"
#include "runtime/ops/attention_tile_cuda.h"

namespace unipool {
namespace {

template <typename T>
using Arguments = AttentionBackwardArguments<T>;

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kRows = kWarps * 16;  // queries or keys per block
constexpr float kLog2E = 1.44269504f;

// ds = p * (dp - dot), the gradient of the scaled scores. The factor scale is applied when dq and
// dk are stored.
struct ScoreGradient {
  float scale;  // factor of the scores, times log2(e) for exp2
  float lse;    // times log2(e)
  float dot;

  __device__ __forceinline__ void Apply(float* score, float* dp, bool visible) const {
    *score = visible ? exp2f(*score * scale - lse) : 0.0f;
    *dp = *score * (*dp - dot);
  }
};

// Work of one block; see MmaQueryGradientKernel.
template <int kDim>
struct MmaQueryGradient {
  static constexpr int kKeys = 64;  // keys per step
  static constexpr int kTileElements = kRows * HeadTile<kDim>::kStride;
  static constexpr int kSharedBytes = (6 * kTileElements) * static_cast<int>(sizeof(Bf16)) +
                                      kRows * static_cast<int>(sizeof(float));

  const Arguments<Bf16>& arguments;
  HeadBlock block;
  Bf16* queries;
  Bf16* douts;
  Bf16* keys;   // keys and values of two steps
  float* dots;  // [kRows], of the block's queries

  __device__ int64_t Token() const { return block.origin + block.first; }
  __device__ Bf16* Keys(int step) const { return keys + step % 2 * 2 * kTileElements; }

  __device__ void CopyQueries() const {
    const HeadLayout& layout = arguments.layout;
    HeadTile<kDim>::template Copy<kRows, kThreads>(
        arguments.qkv + layout.Query(Token(), block.head), layout.qkv_stride(), block.rows_left,
        layout.head_dim, queries);
    HeadTile<kDim>::template Copy<kRows, kThreads>(arguments.dout + layout.Out(Token(), block.head),
                                                   layout.out_stride(), block.rows_left,
                                                   layout.head_dim, douts);
  }
  __device__ void CopyKeys(int step) const {
    const HeadLayout& layout = arguments.layout;
    const int kv_head = block.head / layout.group(), rows_left = layout.sequence - step * kKeys;
    const int64_t token = block.origin + step * kKeys;
    HeadTile<kDim>::template Copy<kKeys, kThreads>(arguments.qkv + layout.Key(token, kv_head),
                                                   layout.qkv_stride(), rows_left, layout.head_dim,
                                                   Keys(step));
    HeadTile<kDim>::template Copy<kKeys, kThreads>(arguments.qkv + layout.Value(token, kv_head),
                                                   layout.qkv_stride(), rows_left, layout.head_dim,
                                                   Keys(step) + kTileElements);
  }

  // dots[row] = sum_d dout * out, with two threads per query.
  __device__ void ComputeDots() const {
    const HeadLayout& layout = arguments.layout;
    const int row = static_cast<int>(threadIdx.x) / 2, half = static_cast<int>(threadIdx.x) % 2;
    float dot = 0;
    if (row < block.rows_left) {
      const int64_t at = layout.Out(Token() + row, block.head);
      for (int d = half * 8; d < layout.head_dim; d += 16) {
        const auto out = LoadPack(arguments.out + at + d), dout = LoadPack(arguments.dout + at + d);
#pragma unroll
        for (int i = 0; i < 8; ++i) dot += ToFloat(out.values[i]) * ToFloat(dout.values[i]);
      }
    }
    dot += __shfl_xor_sync(kAllLanes, dot, 1);
    if (half == 0) dots[row] = dot;
    if (half == 0 && row < block.rows_left) {
      arguments.dot[layout.Statistic(block.origin, block.head, block.first + row)] = dot;
    }
  }

  __device__ ScoreGradient GradientOf(int row) const {
    const HeadLayout& layout = arguments.layout;
    const int64_t at = layout.Statistic(block.origin, block.head, block.first + row);
    const float lse = row < block.rows_left ? arguments.lse[at] : INFINITY;
    return {layout.scale * kLog2E, lse * kLog2E, dots[row]};
  }

  __device__ void Run() const {
    const HeadLayout& layout = arguments.layout;
    const int steps = CeilDivide(min(block.first + kRows, layout.sequence), kKeys);
    const int row = WarpId() * 16, first_query = block.first + row + LaneId() / 4;
    CopyQueries();
    CopyKeys(0);
    CommitCopies();
    ComputeDots();
    HeadSums<1, kDim / 8> dqueries;
    Clear(dqueries);
    ScoreGradient gradients[2];
    for (int step = 0; step < steps; ++step) {
      WaitCopies<0>();
      __syncthreads();
      if (step == 0) {
        gradients[0] = GradientOf(row + LaneId() / 4);
        gradients[1] = GradientOf(row + LaneId() / 4 + 8);
      }
      if (step + 1 < steps) CopyKeys(step + 1);
      CommitCopies();
      HeadSums<1, kKeys / 8> scores, dp;
      MultiplyRows<kDim>(queries, row, Keys(step), scores);
      MultiplyRows<kDim>(douts, row, Keys(step) + kTileElements, dp);
      const int key = step * kKeys + LaneId() % 4 * 2;
#pragma unroll
      for (int n = 0; n < kKeys / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const bool visible = key + n * 8 + i % 2 <= first_query + i / 2 * 8;
          gradients[i / 2].Apply(&scores[0][n][i], &dp[0][n][i], visible);
        }
      }
      AddWeightedRows<kDim>(dp, Keys(step), dqueries);
    }
    StoreRows<kDim>(dqueries[0], row, block.rows_left, layout.head_dim, layout.scale, layout.scale,
                    arguments.dqkv + layout.Query(Token(), block.head), layout.qkv_stride());
  }
};

// dq, and the dots for the second kernel. Each block has kRows queries of one head and loops over
// their keys.
template <int kDim>
__global__ void __launch_bounds__(kThreads) MmaQueryGradientKernel(Arguments<Bf16> arguments) {
  using Kernel = MmaQueryGradient<kDim>;
  Bf16* shared = DynamicShared<Bf16>();
  const HeadBlock block =
      HeadBlock::Of(arguments.layout, arguments.layout.heads, kRows, int64_t{blockIdx.x});
  Kernel{arguments,
         block,
         shared,
         shared + Kernel::kTileElements,
         shared + 2 * Kernel::kTileElements,
         reinterpret_cast<float*>(shared + 6 * Kernel::kTileElements)}
      .Run();
}

// Work of one block; see MmaKeyGradientKernel.
template <int kDim>
struct MmaKeyGradient {
  // Queries per step; fewer for wide heads, whose sums need the registers.
  static constexpr int kQueries = kDim > 96 ? 32 : 64;
  static constexpr int kTileElements = kRows * HeadTile<kDim>::kStride;
  static constexpr int kStepElements = 2 * kQueries * HeadTile<kDim>::kStride;
  static constexpr int kSharedBytes =
      2 * (kTileElements + kStepElements) * static_cast<int>(sizeof(Bf16)) +
      4 * kQueries * static_cast<int>(sizeof(float));

  const Arguments<Bf16>& arguments;
  HeadBlock block;  // a block of keys; `head` is the key/value head
  Bf16* keys;
  Bf16* values;
  Bf16* queries;  // queries and dout of two steps
  float* rows;    // lse and dot of two steps

  __device__ int64_t Token() const { return block.origin + block.first; }
  __device__ Bf16* Queries(int step) const { return queries + step % 2 * kStepElements; }
  __device__ float* Rows(int step) const { return rows + step % 2 * 2 * kQueries; }

  __device__ void CopyKeys() const {
    const HeadLayout& layout = arguments.layout;
    HeadTile<kDim>::template Copy<kRows, kThreads>(arguments.qkv + layout.Key(Token(), block.head),
                                                   layout.qkv_stride(), block.rows_left,
                                                   layout.head_dim, keys);
    HeadTile<kDim>::template Copy<kRows, kThreads>(
        arguments.qkv + layout.Value(Token(), block.head), layout.qkv_stride(), block.rows_left,
        layout.head_dim, values);
  }
  __device__ void CopyQueries(int step, int head, int first) const {
    const HeadLayout& layout = arguments.layout;
    const int rows_left = layout.sequence - first;
    const int64_t token = block.origin + first;
    HeadTile<kDim>::template Copy<kQueries, kThreads>(arguments.qkv + layout.Query(token, head),
                                                      layout.qkv_stride(), rows_left,
                                                      layout.head_dim, Queries(step));
    HeadTile<kDim>::template Copy<kQueries, kThreads>(
        arguments.dout + layout.Out(token, head), layout.out_stride(), rows_left, layout.head_dim,
        Queries(step) + kStepElements / 2);
    const int row = static_cast<int>(threadIdx.x);
    if (row >= kQueries) return;
    // Recomputing the sequence with a division costs less than keeping it in a register; the kernel
    // has none to spare.
    const int64_t sequence_id = static_cast<uint32_t>(block.origin) / layout.sequence;
    const int64_t at = layout.Statistic(sequence_id * layout.sequence, head, first + row);
    Rows(step)[row] = row < rows_left ? arguments.lse[at] * kLog2E : INFINITY;
    Rows(step)[kQueries + row] = row < rows_left ? arguments.dot[at] : 0.0f;
  }

  // Replaces scores by p and dp by ds. The rows of a fragment are keys; its columns are queries,
  // starting at `query`.
  __device__ void ScoreGradients(int step, int query, HeadSums<1, kQueries / 8>& scores,
                                 HeadSums<1, kQueries / 8>& dp) const {
    const float scale = arguments.layout.scale * kLog2E;
    const int key = block.first + WarpId() * 16 + LaneId() / 4;
#pragma unroll
    for (int n = 0; n < kQueries / 8; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int column = n * 8 + LaneId() % 4 * 2 + i % 2;
        const ScoreGradient gradient{scale, Rows(step)[column], Rows(step)[kQueries + column]};
        gradient.Apply(&scores[0][n][i], &dp[0][n][i], key + i / 2 * 8 <= query + column);
      }
    }
  }

  __device__ void Run() const {
    const HeadLayout& layout = arguments.layout;
    const int row = WarpId() * 16, head_end = (block.head + 1) * layout.group();
    const int first_query = block.first / kQueries * kQueries;
    int head = block.head * layout.group(), query = first_query;
    CopyKeys();
    CopyQueries(0, head, query);
    CommitCopies();
    HeadSums<1, kDim / 8> dkeys, dvalues;
    Clear(dkeys);
    Clear(dvalues);
    for (int step = 0; head < head_end; ++step) {
      WaitCopies<0>();
      __syncthreads();
      const int query_now = query;
      query += kQueries;
      if (query >= layout.sequence) {
        query = first_query;
        ++head;
      }
      if (head < head_end) CopyQueries(step + 1, head, query);
      CommitCopies();
      HeadSums<1, kQueries / 8> scores, dp;
      Bf16* const douts = Queries(step) + kStepElements / 2;
      MultiplyRows<kDim>(keys, row, Queries(step), scores);
      MultiplyRows<kDim>(values, row, douts, dp);
      ScoreGradients(step, query_now, scores, dp);
      AddWeightedRows<kDim>(scores, douts, dvalues);
      AddWeightedRows<kDim>(dp, Queries(step), dkeys);
    }
    StoreRows<kDim>(dkeys[0], row, block.rows_left, layout.head_dim, layout.scale, layout.scale,
                    arguments.dqkv + layout.Key(Token(), block.head), layout.qkv_stride());
    StoreRows<kDim>(dvalues[0], row, block.rows_left, layout.head_dim, 1, 1,
                    arguments.dqkv + layout.Value(Token(), block.head), layout.qkv_stride());
  }
};

// dk and dv. Each block has kRows keys of one key/value head and loops over the queries of all its
// heads.
template <int kDim>
__global__ void __launch_bounds__(kThreads, 2) MmaKeyGradientKernel(Arguments<Bf16> arguments) {
  using Kernel = MmaKeyGradient<kDim>;
  Bf16* shared = DynamicShared<Bf16>();
  Bf16* queries = shared + 2 * Kernel::kTileElements;
  const HeadBlock block =
      HeadBlock::Of(arguments.layout, arguments.layout.kv_heads, kRows, int64_t{blockIdx.x});
  Kernel{arguments, block,
         shared,    shared + Kernel::kTileElements,
         queries,   reinterpret_cast<float*>(queries + 2 * Kernel::kStepElements)}
      .Run();
}

// Arguments for the tokens [first, first + tokens), which are whole sequences.
template <typename T>
Arguments<T> ArgumentsOf(const AttentionBackward& op, int64_t first, int64_t tokens, float* dot) {
  HeadLayout layout = HeadLayout::Of(op);
  layout.tokens = tokens;
  const int64_t at_out = first * layout.out_stride(), at_qkv = first * layout.qkv_stride();
  return {layout,
          op.dout.as<T>() + at_out,
          op.qkv.as<T>() + at_qkv,
          op.out.as<T>() + at_out,
          op.lse.as<float>() + first * layout.heads,
          dot,
          op.dqkv.as<T>() + at_qkv};
}

LaunchShape Blocks(int64_t blocks, size_t shared_bytes) {
  return {.grid = dim3(static_cast<unsigned>(blocks)),
          .block = dim3(kThreads),
          .shared_bytes = shared_bytes};
}

// The kernel of the keys reads the dots that the kernel of the queries writes.
template <int kDim>
void RunMma(const Arguments<Bf16>& arguments, Stream& stream) {
  const HeadLayout& layout = arguments.layout;
  LaunchKernel(
      CudaStream(stream),
      Blocks(HeadBlock::Count(layout, layout.heads, kRows), MmaQueryGradient<kDim>::kSharedBytes),
      MmaQueryGradientKernel<kDim>, arguments);
  LaunchKernel(
      CudaStream(stream),
      Blocks(HeadBlock::Count(layout, layout.kv_heads, kRows), MmaKeyGradient<kDim>::kSharedBytes),
      MmaKeyGradientKernel<kDim>, arguments);
}

void Run(const Arguments<float>& arguments, Stream& stream) {
  RunPlainAttention(arguments, stream);
}

void Run(const Arguments<Bf16>& arguments, Stream& stream) {
  const int head_dim = arguments.layout.head_dim;
  const bool chunks =
      head_dim % 8 == 0 && Aligned(arguments.dout, arguments.qkv, arguments.out, arguments.dqkv);
  if (!chunks || head_dim > 128) return RunPlainAttention(arguments, stream);
  if (head_dim <= 64) return RunMma<64>(arguments, stream);
  if (head_dim <= 96) return RunMma<96>(arguments, stream);
  RunMma<128>(arguments, stream);
}

bool RunByCudnn(const AttentionBackward& op, Stream& stream) {
  if (op.dqkv.dtype == DType::kFloat32) return false;
  CudnnAttention attention = CudnnAttentionOf(op);
  attention.shape.backward = true;
  attention.dout = op.dout.data;
  attention.dqkv = op.dqkv.data;
  return RunCudnnAttention(attention, stream);
}

}  // namespace

// Processes as many sequences at a time as have room for the dots of their queries in the scratch.
void ComputeOnCuda(const AttentionBackward& op, Stream& stream) {
  if (RunByCudnn(op, stream)) return;
  const Scratch scratch = ScratchOf(stream);
  const int64_t fit = static_cast<int64_t>(scratch.bytes / sizeof(float)) / op.heads;
  CUDA_CHECK(fit >= op.sequence ? cudaSuccess : cudaErrorMemoryAllocation);
  const int64_t tokens = op.out.dim(0), step = fit / op.sequence * op.sequence;
  for (int64_t first = 0; first < tokens; first += step) {
    const int64_t now = tokens - first < step ? tokens - first : step;
    ForFloatType(op.dqkv.dtype, [&](auto tag) {
      using T = typename decltype(tag)::Type;
      Run(ArgumentsOf<T>(op, first, now, static_cast<float*>(scratch.data)), stream);
    });
  }
}

}  // namespace unipool
