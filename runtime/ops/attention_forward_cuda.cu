// Attention forward. Each thread block has a block of queries and reads their keys in blocks. It
// keeps a running maximum and sum of the exponentials of each query (FlashAttention, Dao 2022).
#include "runtime/ops/attention.h"
#include "runtime/ops/attention_plain_cuda.h"
#include "runtime/ops/attention_tile_cuda.h"

namespace unipool {
namespace {

template <typename T>
using Arguments = AttentionForwardArguments<T>;

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kKeys = 64;  // keys per step
constexpr float kLog2E = 1.44269504f;

// A warp processes kFragments * 16 queries.
template <int kDim, int kFragments>
struct ForwardShape {
  static constexpr int kQueries = kWarps * kFragments * 16;
  static constexpr int kKeyElements = kKeys * HeadTile<kDim>::kStride;
  static constexpr int kSharedBytes =
      (kQueries * HeadTile<kDim>::kStride + 4 * kKeyElements) * static_cast<int>(sizeof(Bf16));
};

__device__ __forceinline__ float QuadMax(float value) {
  value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, 1));
  return fmaxf(value, __shfl_xor_sync(kAllLanes, value, 2));
}
__device__ __forceinline__ float QuadSum(float value) {
  value += __shfl_xor_sync(kAllLanes, value, 1);
  return value + __shfl_xor_sync(kAllLanes, value, 2);
}

// Causal mask: sets the scores of keys after each query to -infinity. `row` is the first query of
// the fragment and `key` the first key of the step, both relative to the sequence.
template <int kColumns>
__device__ __forceinline__ void HideLaterKeys(float (&scores)[kColumns][4], int row, int key) {
  const int query = row + LaneId() / 4, column = key + LaneId() % 4 * 2;
#pragma unroll
  for (int n = 0; n < kColumns; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (column + n * 8 + i % 2 > query + i / 2 * 8) scores[n][i] = -INFINITY;
    }
  }
}

// Running softmax of the two queries that a thread holds in a fragment. Each lane of a quad has the
// sum over its own keys.
struct RunningSoftmax {
  float largest[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};

  // Replaces the scores by exp(score - new maximum) and rescales `out` to the new maximum.
  template <int kColumns, int kOut>
  __device__ __forceinline__ void Update(float (&scores)[kColumns][4], float (&out)[kOut][4],
                                         float scale) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float now = largest[half];
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        now = fmaxf(now, fmaxf(scores[n][2 * half], scores[n][2 * half + 1]));
      }
      now = QuadMax(now);
      const float correction = exp2f((largest[half] - now) * scale);
      largest[half] = now;
      sum[half] *= correction;
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
#pragma unroll
        for (int i = 2 * half; i < 2 * half + 2; ++i) {
          scores[n][i] = exp2f((scores[n][i] - now) * scale);
          sum[half] += scores[n][i];
        }
      }
#pragma unroll
      for (int d = 0; d < kOut; ++d) {
        out[d][2 * half] *= correction;
        out[d][2 * half + 1] *= correction;
      }
    }
  }
};

// Work of one block; see MmaForwardKernel.
template <int kDim, int kFragments>
struct MmaForward {
  using Shape = ForwardShape<kDim, kFragments>;
  const Arguments<Bf16>& arguments;
  HeadBlock block;
  Bf16* queries;
  Bf16* keys;  // keys and values of two steps

  __device__ void CopyQueries() const {
    const HeadLayout& layout = arguments.layout;
    HeadTile<kDim>::template Copy<Shape::kQueries, kThreads>(
        arguments.qkv + layout.Query(block.origin + block.first, block.head), layout.qkv_stride(),
        block.rows_left, layout.head_dim, queries);
  }
  __device__ Bf16* Keys(int step) const { return keys + step % 2 * 2 * Shape::kKeyElements; }
  __device__ void CopyKeys(int step) const {
    const HeadLayout& layout = arguments.layout;
    const int kv_head = block.head / layout.group(), rows_left = layout.sequence - step * kKeys;
    const int64_t token = block.origin + step * kKeys;
    HeadTile<kDim>::template Copy<kKeys, kThreads>(arguments.qkv + layout.Key(token, kv_head),
                                                   layout.qkv_stride(), rows_left, layout.head_dim,
                                                   Keys(step));
    HeadTile<kDim>::template Copy<kKeys, kThreads>(arguments.qkv + layout.Value(token, kv_head),
                                                   layout.qkv_stride(), rows_left, layout.head_dim,
                                                   Keys(step) + Shape::kKeyElements);
  }

  __device__ void Run() const {
    const int reach = min(block.first + Shape::kQueries, arguments.layout.sequence);
    const int steps = CeilDivide(reach, kKeys);
    const int row = WarpId() * kFragments * 16;
    const float scale = arguments.layout.scale * kLog2E;
    HeadSums<kFragments, kDim / 8> out;
    Clear(out);
    RunningSoftmax softmax[kFragments];
    CopyQueries();
    CopyKeys(0);
    CommitCopies();
    for (int step = 0; step < steps; ++step) {
      WaitCopies<0>();
      __syncthreads();
      if (step + 1 < steps) CopyKeys(step + 1);
      CommitCopies();
      const int first_query = block.first + row, key = step * kKeys;
      if (key >= first_query + kFragments * 16) continue;  // all keys are after this warp's queries
      HeadSums<kFragments, kKeys / 8> scores;
      MultiplyRows<kDim>(queries, row, Keys(step), scores);
#pragma unroll
      for (int m = 0; m < kFragments; ++m) {
        if (key + kKeys > first_query) HideLaterKeys(scores[m], first_query + m * 16, key);
        softmax[m].Update(scores[m], out[m], scale);
      }
      AddWeightedRows<kDim>(scores, Keys(step) + Shape::kKeyElements, out);
    }
#pragma unroll
    for (int m = 0; m < kFragments; ++m) Store(softmax[m], out[m], row + m * 16);
  }

  __device__ void Store(const RunningSoftmax& softmax, const float (&out)[kDim / 8][4],
                        int row) const {
    const HeadLayout& layout = arguments.layout;
    const float low = QuadSum(softmax.sum[0]), high = QuadSum(softmax.sum[1]);
    const int64_t token = block.origin + block.first;
    StoreRows<kDim>(out, row, block.rows_left, layout.head_dim, 1 / low, 1 / high,
                    arguments.out + layout.Out(token, block.head), layout.out_stride());
    const int place = row + LaneId() / 4;
    if (LaneId() % 4 != 0) return;
    float* lse = arguments.lse + layout.Statistic(block.origin, block.head, block.first + place);
    if (place < block.rows_left) lse[0] = softmax.largest[0] * layout.scale + logf(low);
    if (place + 8 < block.rows_left) lse[8] = softmax.largest[1] * layout.scale + logf(high);
  }
};

// bf16 on tensor cores, head_dim <= kDim. Each block computes kQueries queries of one head; keys
// and values are copied to shared memory one step ahead of their use.
template <int kDim, int kFragments>
__global__ void __launch_bounds__(kThreads, 2) MmaForwardKernel(Arguments<Bf16> arguments) {
  using Shape = ForwardShape<kDim, kFragments>;
  Bf16* shared = DynamicShared<Bf16>();
  const HeadBlock block = HeadBlock::Of(arguments.layout, arguments.layout.heads, Shape::kQueries,
                                        static_cast<int64_t>(blockIdx.x));
  MmaForward<kDim, kFragments>{arguments, block, shared,
                               shared + Shape::kQueries * HeadTile<kDim>::kStride}
      .Run();
}

template <typename T>
Arguments<T> ArgumentsOf(const AttentionForward& op) {
  return {HeadLayout::Of(op), op.qkv.as<T>(), op.out.as<T>(), op.lse.as<float>()};
}

template <int kDim, int kFragments>
void RunMma(const AttentionForward& op, Stream& stream) {
  using Shape = ForwardShape<kDim, kFragments>;
  const Arguments<Bf16> arguments = ArgumentsOf<Bf16>(op);
  const int64_t blocks =
      HeadBlock::Count(arguments.layout, arguments.layout.heads, Shape::kQueries);
  LaunchKernel(CudaStream(stream),
               {.grid = dim3(static_cast<unsigned>(blocks)),
                .block = dim3(kThreads),
                .shared_bytes = Shape::kSharedBytes},
               MmaForwardKernel<kDim, kFragments>, arguments);
}

}  // namespace

void ComputeOnCuda(const AttentionForward& op, Stream& stream) {
  if (op.out.dtype == DType::kFloat32) return RunPlainAttention(ArgumentsOf<float>(op), stream);
  if (RunCudnnAttention(CudnnAttentionOf(op), stream)) return;
  const int64_t head_dim = op.out.dim(1) / op.heads;
  const bool chunks = head_dim % 8 == 0 && Aligned(op.qkv.as<Bf16>(), op.out.as<Bf16>());
  if (!chunks || head_dim > 128) return RunPlainAttention(ArgumentsOf<Bf16>(op), stream);
  if (head_dim <= 64) return RunMma<64, 2>(op, stream);
  if (head_dim <= 96) return RunMma<96, 1>(op, stream);
  RunMma<128, 1>(op, stream);
}

}  // namespace unipool
