// Attention for any type and head_dim, without tensor cores. A warp processes one query (or one key
// in the key gradient), and each lane one of 32 keys (or queries). The warp's own row and its sums
// are in shared memory.
#include "runtime/ops/attention_plain_cuda.h"

namespace unipool {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;

// Forward: a warp processes one query; each lane takes one of 32 keys, with a running softmax over
// the keys.
template <typename T>
__global__ void __launch_bounds__(kThreads) ForwardKernel(AttentionForwardArguments<T> arguments) {
  const HeadLayout& layout = arguments.layout;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kWarps + WarpId();
  if (item >= layout.tokens * layout.heads) return;
  const int head = static_cast<int>(item % layout.heads), kv_head = head / layout.group();
  const int64_t token = item / layout.heads, origin = token - token % layout.sequence;
  float* weights = DynamicShared<float>() + WarpId() * (kWarp + 2 * layout.head_dim);
  float* query = weights + kWarp;
  float* out = query + layout.head_dim;
  for (int d = LaneId(); d < layout.head_dim; d += kWarp) {
    query[d] = ToFloat(arguments.qkv[layout.Query(token, head) + d]);
    out[d] = 0;
  }
  float largest = -INFINITY, sum = 0;
  for (int64_t begin = origin; begin <= token; begin += kWarp) {
    __syncwarp();
    float score = -INFINITY;
    if (begin + LaneId() <= token) {
      const T* key = arguments.qkv + layout.Key(begin + LaneId(), kv_head);
      score = 0;
      for (int d = 0; d < layout.head_dim; ++d) score += query[d] * ToFloat(key[d]);
      score *= layout.scale;
    }
    const float now = fmaxf(largest, WarpMax(score)), correction = expf(largest - now);
    weights[LaneId()] = expf(score - now);
    sum = sum * correction + WarpSum(weights[LaneId()]);
    largest = now;
    __syncwarp();
    const int keys = static_cast<int>(min(int64_t{kWarp}, token - begin + 1));
    const T* value = arguments.qkv + layout.Value(begin, kv_head);
    for (int d = LaneId(); d < layout.head_dim; d += kWarp) {
      float total = out[d] * correction;
      for (int j = 0; j < keys; ++j)
        total += weights[j] * ToFloat(value[j * layout.qkv_stride() + d]);
      out[d] = total;
    }
  }
  for (int d = LaneId(); d < layout.head_dim; d += kWarp) {
    arguments.out[layout.Out(token, head) + d] = FromFloat<T>(out[d] / sum);
  }
  if (LaneId() == 0) {
    arguments.lse[layout.Statistic(origin, head, token - origin)] = largest + logf(sum);
  }
}

// State of a warp in the backward kernels. The warp processes one query, or one key, and each lane
// one row of the other side.
template <typename T>
struct WarpRow {
  const HeadLayout& layout;
  float* weights;  // [2][kWarp], weights of the two sums
  float* left;     // [2][head_dim]: the row and its partner: query and dout, or key and value
  float* sums;     // [2][head_dim]

  __device__ static WarpRow Of(const HeadLayout& layout) {
    float* shared = DynamicShared<float>() + WarpId() * Floats(layout);
    return {layout, shared, shared + 2 * kWarp, shared + 2 * kWarp + 2 * layout.head_dim};
  }
  __host__ __device__ static int Floats(const HeadLayout& layout) {
    return 2 * kWarp + 4 * layout.head_dim;
  }

  __device__ void Begin(const T* first, const T* second) const {
    for (int d = LaneId(); d < layout.head_dim; d += kWarp) {
      left[d] = ToFloat(first[d]);
      left[layout.head_dim + d] = ToFloat(second[d]);
      sums[d] = sums[layout.head_dim + d] = 0;
    }
    __syncwarp();
  }
  __device__ float Dot(int side, const T* right) const {
    float dot = 0;
    for (int d = 0; d < layout.head_dim; ++d)
      dot += left[side * layout.head_dim + d] * ToFloat(right[d]);
    return dot;
  }
  __device__ void SetWeights(float first, float second) const {
    __syncwarp();
    weights[LaneId()] = first;
    weights[kWarp + LaneId()] = second;
    __syncwarp();
  }
  // sums[side][d] += sum_j weights[side][j] * rows[j * stride + d]
  __device__ void Add(int side, const T* rows, int64_t stride, int count) const {
    for (int d = LaneId(); d < layout.head_dim; d += kWarp) {
      float sum = sums[side * layout.head_dim + d];
      for (int j = 0; j < count; ++j)
        sum += weights[side * kWarp + j] * ToFloat(rows[j * stride + d]);
      sums[side * layout.head_dim + d] = sum;
    }
  }
  __device__ void Store(int side, float scale, T* to) const {
    for (int d = LaneId(); d < layout.head_dim; d += kWarp) {
      to[d] = FromFloat<T>(sums[side * layout.head_dim + d] * scale);
    }
  }
};

// dq of one query per warp; also writes the query's dot.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    QueryGradientKernel(AttentionBackwardArguments<T> arguments) {
  const HeadLayout& layout = arguments.layout;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kWarps + WarpId();
  if (item >= layout.tokens * layout.heads) return;
  const int head = static_cast<int>(item % layout.heads), kv_head = head / layout.group();
  const int64_t token = item / layout.heads, origin = token - token % layout.sequence;
  const int64_t at = layout.Statistic(origin, head, token - origin);
  const T* dout = arguments.dout + layout.Out(token, head);
  const T* out = arguments.out + layout.Out(token, head);
  const WarpRow<T> row = WarpRow<T>::Of(layout);
  row.Begin(arguments.qkv + layout.Query(token, head), dout);
  float dot = 0;
  for (int d = LaneId(); d < layout.head_dim; d += kWarp) dot += ToFloat(dout[d]) * ToFloat(out[d]);
  dot = WarpSum(dot);
  if (LaneId() == 0) arguments.dot[at] = dot;
  for (int64_t begin = origin; begin <= token; begin += kWarp) {
    float ds = 0;
    if (begin + LaneId() <= token) {
      const T* key = arguments.qkv + layout.Key(begin + LaneId(), kv_head);
      const T* value = arguments.qkv + layout.Value(begin + LaneId(), kv_head);
      const float p = expf(row.Dot(0, key) * layout.scale - arguments.lse[at]);
      ds = p * (row.Dot(1, value) - dot);
    }
    row.SetWeights(ds, 0);
    const int keys = static_cast<int>(min(int64_t{kWarp}, token - begin + 1));
    row.Add(0, arguments.qkv + layout.Key(begin, kv_head), layout.qkv_stride(), keys);
  }
  row.Store(0, layout.scale, arguments.dqkv + layout.Query(token, head));
}

// dk and dv of one key per warp, summed over the queries of all heads that read it.
template <typename T>
__global__ void __launch_bounds__(kThreads, 1)
    KeyGradientKernel(AttentionBackwardArguments<T> arguments) {
  const HeadLayout& layout = arguments.layout;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kWarps + WarpId();
  if (item >= layout.tokens * layout.kv_heads) return;
  const int kv_head = static_cast<int>(item % layout.kv_heads);
  const int64_t token = item / layout.kv_heads, origin = token - token % layout.sequence;
  const int64_t end = origin + layout.sequence;
  const WarpRow<T> row = WarpRow<T>::Of(layout);
  row.Begin(arguments.qkv + layout.Key(token, kv_head),
            arguments.qkv + layout.Value(token, kv_head));
  for (int head = kv_head * layout.group(); head < (kv_head + 1) * layout.group(); ++head) {
    for (int64_t begin = token; begin < end; begin += kWarp) {
      float p = 0, ds = 0;
      if (begin + LaneId() < end) {
        const int64_t query = begin + LaneId();
        const int64_t at = layout.Statistic(origin, head, query - origin);
        p = expf(row.Dot(0, arguments.qkv + layout.Query(query, head)) * layout.scale -
                 arguments.lse[at]);
        ds = p * (row.Dot(1, arguments.dout + layout.Out(query, head)) - arguments.dot[at]);
      }
      row.SetWeights(ds, p);
      const int queries = static_cast<int>(min(int64_t{kWarp}, end - begin));
      row.Add(0, arguments.qkv + layout.Query(begin, head), layout.qkv_stride(), queries);
      row.Add(1, arguments.dout + layout.Out(begin, head), layout.out_stride(), queries);
    }
  }
  row.Store(0, layout.scale, arguments.dqkv + layout.Key(token, kv_head));
  row.Store(1, 1, arguments.dqkv + layout.Value(token, kv_head));
}

LaunchShape ShapeFor(int64_t rows, int floats_of_warp) {
  return {.grid = dim3(static_cast<unsigned>(CeilDivide<int64_t>(rows, kWarps))),
          .block = dim3(kThreads),
          .shared_bytes = kWarps * static_cast<size_t>(floats_of_warp) * sizeof(float)};
}

}  // namespace

template <typename T>
void RunPlainAttention(const AttentionForwardArguments<T>& arguments, Stream& stream) {
  const HeadLayout& layout = arguments.layout;
  LaunchKernel(CudaStream(stream),
               ShapeFor(layout.tokens * layout.heads, kWarp + 2 * layout.head_dim),
               ForwardKernel<T>, arguments);
}
template void RunPlainAttention(const AttentionForwardArguments<float>&, Stream&);
template void RunPlainAttention(const AttentionForwardArguments<Bf16>&, Stream&);

// KeyGradientKernel reads the dots that QueryGradientKernel writes.
template <typename T>
void RunPlainAttention(const AttentionBackwardArguments<T>& arguments, Stream& stream) {
  const HeadLayout& layout = arguments.layout;
  const int floats = WarpRow<T>::Floats(layout);
  LaunchKernel(CudaStream(stream), ShapeFor(layout.tokens * layout.heads, floats),
               QueryGradientKernel<T>, arguments);
  LaunchKernel(CudaStream(stream), ShapeFor(layout.tokens * layout.kv_heads, floats),
               KeyGradientKernel<T>, arguments);
}
template void RunPlainAttention(const AttentionBackwardArguments<float>&, Stream&);
template void RunPlainAttention(const AttentionBackwardArguments<Bf16>&, Stream&);

}  // namespace unipool
