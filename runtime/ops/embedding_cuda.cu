// Embedding kernels. The forward copies rows; the backward adds rows without atomics: each element
// of dtable is summed by one thread in token order, so the bits do not depend on timing.
#include "runtime/ops/embedding.h"

#include "runtime/kernel_cuda.h"
#include "runtime/ops/check_ids_cuda.h"

namespace unipool {
namespace {

constexpr int kThreads = 128;
constexpr int kRowsInFlight = 4;

// Each warp copies one row at a time.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(const int32_t* ids, const T* table, T* y, int64_t tokens, int64_t hidden,
                  int64_t vocab) {
  const int64_t warps = GridThreads() / kWarp;
  for (int64_t t = GlobalThread() / kWarp; t < tokens; t += warps) {
    const T* row = table + CheckedId("embedding_forward", ids[t], t, vocab) * hidden;
#pragma unroll 1
    for (int64_t h = LaneId() * int64_t{kSize}; h < hidden; h += int64_t{kWarp} * kSize) {
      StorePack(y + t * hidden + h, LoadPack<T, kSize>(row + h));
    }
  }
}

template <typename T>
struct Backward {
  const int32_t* ids;
  const T* dy;
  float* dtable;
  int64_t tokens;
  int64_t hidden;
  int64_t vocab;
};

// The tokens of this block's ids, in order, within a range of kThreads tokens.
struct Found {
  int32_t id[kThreads];
  int64_t token[kThreads];
};

// Fills `found` for the range that starts at `begin` and returns the number of tokens in it. All
// threads of the block must call it.
__device__ int Find(const int32_t* ids, int64_t begin, int64_t tokens, Found& found) {
  __shared__ int of_warp[kThreads / kWarp];
  const int64_t t = begin + threadIdx.x;
  const int32_t id = t < tokens ? ids[t] : -1;
  const bool mine = id >= 0 && static_cast<unsigned>(id) % gridDim.x == blockIdx.x;
  // also: all threads have finished the previous range
  const int count = __syncthreads_count(mine ? 1 : 0);
  if (count == 0) return 0;
  const unsigned votes = __ballot_sync(kAllLanes, mine ? 1 : 0);
  if (LaneId() == 0) of_warp[WarpId()] = __popc(votes);
  __syncthreads();
  int place = __popc(votes & ((1u << LaneId()) - 1));
  for (int warp = 0; warp < WarpId(); ++warp) place += of_warp[warp];
  if (mine) {
    found.id[place] = id;
    found.token[place] = t;
  }
  __syncthreads();
  return count;
}

// kSize elements of one row of dtable, kept in registers while consecutive tokens have the same id.
template <int kSize>
struct Row {
  float* place = nullptr;
  float sums[kSize];

  __device__ __forceinline__ void MoveTo(float* next) {
    if (next == place) return;
    Flush();
    place = next;
#pragma unroll
    for (int i = 0; i < kSize; ++i) sums[i] = place[i];
  }
  __device__ __forceinline__ void Flush() {
    if (place == nullptr) return;
#pragma unroll
    for (int i = 0; i < kSize; ++i) place[i] = sums[i];
  }
};

// Block b processes the ids with id % gridDim.x == b. Frequent tokens have small ids and are spread
// over the blocks. Each element of dtable is summed by one thread over the tokens in order.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads) BackwardKernel(Backward<T> op) {
  __shared__ Found found;
  const int64_t h = (static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x) * kSize;
  Row<kSize> row;
  for (int64_t begin = 0; begin < op.tokens; begin += kThreads) {
    const int count = Find(op.ids, begin, op.tokens, found);
    if (h >= op.hidden) continue;
    for (int i = 0; i < count; i += kRowsInFlight) {
      Pack<T, kSize> dy[kRowsInFlight];
#pragma unroll
      for (int j = 0; j < kRowsInFlight; ++j) {
        if (i + j < count) dy[j] = LoadPack<T, kSize>(op.dy + found.token[i + j] * op.hidden + h);
      }
#pragma unroll
      for (int j = 0; j < kRowsInFlight; ++j) {
        if (i + j >= count) continue;
        const int64_t id =
            CheckedId("embedding_backward", found.id[i + j], found.token[i + j], op.vocab);
        row.MoveTo(op.dtable + id * op.hidden + h);
#pragma unroll
        for (int k = 0; k < kSize; ++k) row.sums[k] += ToFloat(dy[j].values[k]);
      }
    }
  }
  row.Flush();
}

template <typename T, int kSize>
void RunForward(const EmbeddingForward& op, Stream& stream) {
  const int64_t tokens = op.y.dim(0);
  LaunchKernel(CudaStream(stream), GridStride(tokens * kWarp, kThreads), ForwardKernel<T, kSize>,
               op.tokens.as<int32_t>(), op.table.as<T>(), op.y.as<T>(), tokens, op.y.dim(1),
               op.table.dim(0));
}

template <typename T, int kSize>
void RunBackward(const EmbeddingBackward& op, Stream& stream) {
  constexpr unsigned kGroups = 512;
  const int64_t hidden = op.dy.dim(1);
  const auto across = static_cast<unsigned>(CeilDivide<int64_t>(hidden, kThreads * kSize));
  LaunchKernel(CudaStream(stream),
               {.grid = dim3(op.dy.empty() ? 0 : kGroups, across), .block = dim3(kThreads)},
               BackwardKernel<T, kSize>,
               Backward<T>{.ids = op.tokens.as<int32_t>(),
                           .dy = op.dy.as<T>(),
                           .dtable = op.dtable.as<float>(),
                           .tokens = op.dy.dim(0),
                           .hidden = hidden,
                           .vocab = op.dtable.dim(0)});
}

}  // namespace

void ComputeOnCuda(const EmbeddingForward& op, Stream& stream) {
  ForFloatType(op.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const bool packed = Aligned(op.table.as<T>(), op.y.as<T>()) && op.y.dim(1) % kPack<T> == 0;
    if (packed) return RunForward<T, kPack<T>>(op, stream);
    RunForward<T, 1>(op, stream);
  });
}

void ComputeOnCuda(const EmbeddingBackward& op, Stream& stream) {
  ForFloatType(op.dy.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    if (Aligned(op.dy.as<T>()) && op.dy.dim(1) % kPack<T> == 0) {
      return RunBackward<T, kPack<T>>(op, stream);
    }
    RunBackward<T, 1>(op, stream);
  });
}

}  // namespace unipool
