// RMS normalization. A block holds one row in registers and reads it once. The backward sums
// dweight over the tokens of a block in registers, writes one partial sum per block, and adds those
// in a fixed order.
#include "runtime/ops/rms_norm.h"

#include <algorithm>
#include <type_traits>

#include "runtime/kernel_cuda.h"

namespace unipool {
namespace {

// Threads with more than one pack need more registers, so blocks have fewer of them.
constexpr int MaxThreads(int packs) { return packs == 1 ? 1024 : 512; }
constexpr float kLargest = 3.4028234663852886e38f;

// A block holds one row in registers, kPacks packs of kSize elements per thread. Returns the first
// column of a pack of this thread.
template <int kSize>
__device__ __forceinline__ int ColumnOf(int pack) {
  return (pack * static_cast<int>(blockDim.x) + static_cast<int>(threadIdx.x)) * kSize;
}

template <typename T>
struct Forward {
  const T* x;
  const T* weight;
  float eps;
  T* y;
  float* rstd;
  int64_t tokens;
  int hidden;
};

// Computes y and rstd of the rows blockIdx.x, blockIdx.x + gridDim.x, ..
template <typename T, int kSize, int kPacks>
__global__ void __launch_bounds__(MaxThreads(kPacks)) ForwardKernel(Forward<T> op) {
  for (int64_t t = blockIdx.x; t < op.tokens; t += gridDim.x) {
    Pack<T, kSize> row[kPacks];
    float sum = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int h = ColumnOf<kSize>(p);
      if (h >= op.hidden) continue;
      row[p] = LoadPack<T, kSize>(op.x + t * op.hidden + h);
#pragma unroll
      for (int i = 0; i < kSize; ++i) sum += ToFloat(row[p].values[i]) * ToFloat(row[p].values[i]);
    }
    sum = BlockSum(sum);
    // If the sum of squares overflows, the result is NaN; 1 / sqrt(inf) = 0 would hide the
    // overflow.
    const float rstd = sum <= kLargest ? 1.0f / sqrtf(sum / static_cast<float>(op.hidden) + op.eps)
                                       : __int_as_float(0x7fffffff);
    if (threadIdx.x == 0) op.rstd[t] = rstd;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int h = ColumnOf<kSize>(p);
      if (h >= op.hidden) continue;
      const auto weight = LoadPack<T, kSize>(op.weight + h);
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        row[p].values[i] =
            FromFloat<T>(ToFloat(row[p].values[i]) * rstd * ToFloat(weight.values[i]));
      }
      StorePack(op.y + t * op.hidden + h, row[p]);
    }
  }
}

template <typename T>
struct Backward {
  const T* dy;
  const T* x;
  const T* weight;
  const float* rstd;
  T* dx;
  float* partial;  // [blocks, hidden]: dweight of each block's tokens
  int64_t tokens;
  int hidden;
  bool add_to_dx;
};

// Computes dx of the rows blockIdx.x, blockIdx.x + gridDim.x, .. and the contribution of these rows
// to dweight.
template <typename T, int kSize, int kPacks>
__global__ void __launch_bounds__(MaxThreads(kPacks)) BackwardKernel(Backward<T> op) {
  float dweight[kPacks][kSize] = {};
  for (int64_t t = blockIdx.x; t < op.tokens; t += gridDim.x) {
    Pack<T, kSize> x[kPacks], dy[kPacks];
    const float rstd = op.rstd[t];
    float dot = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int h = ColumnOf<kSize>(p);
      if (h >= op.hidden) continue;
      x[p] = LoadPack<T, kSize>(op.x + t * op.hidden + h);
      dy[p] = LoadPack<T, kSize>(op.dy + t * op.hidden + h);
      const auto weight = LoadPack<T, kSize>(op.weight + h);
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        const float product = ToFloat(dy[p].values[i]) * ToFloat(x[p].values[i]);
        dot += product * ToFloat(weight.values[i]);
        dweight[p][i] += product * rstd;
      }
    }
    const float scale = BlockSum(dot) * rstd * rstd / static_cast<float>(op.hidden);
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const int h = ColumnOf<kSize>(p);
      if (h >= op.hidden) continue;
      const auto weight = LoadPack<T, kSize>(op.weight + h);
      T* to = op.dx + t * op.hidden + h;
      Pack<T, kSize> before;
      if (op.add_to_dx) before = LoadPack<T, kSize>(to);
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        const float dx = rstd * (ToFloat(dy[p].values[i]) * ToFloat(weight.values[i]) -
                                 ToFloat(x[p].values[i]) * scale);
        dy[p].values[i] = FromFloat<T>(op.add_to_dx ? ToFloat(before.values[i]) + dx : dx);
      }
      StorePack(to, dy[p]);
    }
  }
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    const int h = ColumnOf<kSize>(p);
    if (h >= op.hidden) continue;
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      op.partial[static_cast<int64_t>(blockIdx.x) * op.hidden + h + i] = dweight[p][i];
    }
  }
}

// sums[h] += sum_r partial[r,h]. A block has 32 columns, and each of its warps every 32nd row.
__global__ void __launch_bounds__(1024)
    AddColumnsKernel(const float* partial, int rows, int hidden, float* sums) {
  __shared__ float of_warp[kWarp][kWarp + 1];
  const int h = static_cast<int>(blockIdx.x) * kWarp + LaneId();
  float sum = 0;
  if (h < hidden) {
    for (int row = WarpId(); row < rows; row += kWarp) {
      sum += partial[static_cast<int64_t>(row) * hidden + h];
    }
  }
  of_warp[WarpId()][LaneId()] = sum;
  __syncthreads();
  if (WarpId() != 0 || h >= hidden) return;
  float total = 0;
  for (int warp = 0; warp < kWarp; ++warp) total += of_warp[warp][LaneId()];
  sums[h] += total;
}

unsigned ThreadsFor(int hidden, int size, int packs) {
  const int threads = CeilDivide(hidden, size * packs);
  if (threads > MaxThreads(packs)) {
    GpuFail("RMS normalization", __FILE__, __LINE__, "the rows are longer than a block can hold");
  }
  return static_cast<unsigned>(CeilDivide(threads < 1 ? 1 : threads, kWarp) * kWarp);
}

// Calls run(size, packs) with compile-time constants that fit the row: packs of 16 bytes if size
// and alignment allow, and four packs per thread if 1024 threads with one pack are too few. Rows of
// more than 2048 packs are not supported.
template <typename T, typename Run>
void ForLayout(int hidden, bool aligned, Run run) {
  constexpr int kMaxThreads = MaxThreads(1);
  using One = std::integral_constant<int, 1>;
  using Four = std::integral_constant<int, 4>;
  using Size = std::integral_constant<int, kPack<T>>;
  const bool packed = aligned && hidden % kPack<T> == 0;
  if (packed && hidden <= kMaxThreads * kPack<T>) return run(Size{}, One{});
  if (packed) return run(Size{}, Four{});
  if (hidden <= kMaxThreads) return run(One{}, One{});
  run(One{}, Four{});
}

}  // namespace

void ComputeOnCuda(const RmsNormForward& op, Stream& stream) {
  constexpr int64_t kMaxBlocks = 4096;
  ForFloatType(op.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const Forward<T> forward{.x = op.x.as<T>(),
                             .weight = op.weight.as<T>(),
                             .eps = op.eps,
                             .y = op.y.as<T>(),
                             .rstd = op.rstd.as<float>(),
                             .tokens = op.x.dim(0),
                             .hidden = static_cast<int>(op.x.dim(1))};
    const bool aligned = Aligned(forward.x, forward.weight, forward.y);
    ForLayout<T>(forward.hidden, aligned, [&](auto size, auto packs) {
      LaunchKernel(CudaStream(stream),
                   {.grid = dim3(static_cast<unsigned>(std::min(forward.tokens, kMaxBlocks))),
                    .block = dim3(ThreadsFor(forward.hidden, size, packs))},
                   ForwardKernel<T, size, packs>, forward);
    });
  });
}

void ComputeOnCuda(const RmsNormBackward& op, Stream& stream) {
  const int64_t tokens = op.x.dim(0), hidden = op.x.dim(1);
  if (tokens == 0 || hidden == 0) return;
  constexpr int64_t kMaxBlocks = 1024;
  const Scratch scratch = ScratchOf(stream);
  const auto rows_that_fit = static_cast<int64_t>(scratch.bytes / sizeof(float)) / hidden;
  const auto blocks = static_cast<unsigned>(std::min({tokens, kMaxBlocks, rows_that_fit}));
  auto* partial = static_cast<float*>(scratch.data);
  ForFloatType(op.dx.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const Backward<T> backward{.dy = op.dy.as<T>(),
                               .x = op.x.as<T>(),
                               .weight = op.weight.as<T>(),
                               .rstd = op.rstd.as<float>(),
                               .dx = op.dx.as<T>(),
                               .partial = partial,
                               .tokens = tokens,
                               .hidden = static_cast<int>(hidden),
                               .add_to_dx = op.add_to_dx};
    const bool aligned = Aligned(backward.dy, backward.x, backward.weight, backward.dx);
    ForLayout<T>(backward.hidden, aligned, [&](auto size, auto packs) {
      LaunchKernel(CudaStream(stream),
                   {.grid = dim3(blocks), .block = dim3(ThreadsFor(backward.hidden, size, packs))},
                   BackwardKernel<T, size, packs>, backward);
    });
  });
  LaunchKernel(CudaStream(stream),
               {.grid = dim3(static_cast<unsigned>(CeilDivide<int64_t>(hidden, kWarp))),
                .block = dim3(kWarp * kWarp)},
               AddColumnsKernel, static_cast<const float*>(partial), static_cast<int>(blocks),
               static_cast<int>(hidden), op.dweight.as<float>());
}

}  // namespace unipool
