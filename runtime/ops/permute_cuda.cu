// Moves rows between token order and expert order; a warp processes one row at a time.
#include "runtime/ops/check_ids_cuda.h"
#include "runtime/ops/permute.h"
#include "runtime/ops/row_index.h"

namespace unipool {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;

__device__ __forceinline__ int64_t FirstRow() {
  return static_cast<int64_t>(blockIdx.x) * kWarps + WarpId();
}
__device__ __forceinline__ int64_t RowStride() { return static_cast<int64_t>(gridDim.x) * kWarps; }

LaunchShape ShapeFor(int64_t rows) { return GridStride(rows * kWarp, kThreads); }

// Unit is the type of one access; its size divides the size of a row.
template <typename Unit>
__global__ void __launch_bounds__(kThreads)
    GatherKernel(const Unit* x, const int32_t* index, Unit* y, int64_t rows, int64_t units,
                 int64_t source_rows) {
  for (int64_t i = FirstRow(); i < rows; i += RowStride()) {
    if (index[i] == kNoRow) continue;
    const Unit* from = x + CheckedId("gather_rows", index[i], i, source_rows) * units;
    for (int64_t unit = LaneId(); unit < units; unit += kWarp) y[i * units + unit] = from[unit];
  }
}

template <typename T>
struct Combination {
  const T* rows;
  const int32_t* positions;
  const float* gates;  // or null
  const T* base;
  T* y;
  int64_t num_rows;
  int64_t tokens;
  int64_t k;
  int64_t hidden;
};

// A warp computes y[t] of one token: a lane sums packs of kSize elements over base and the k rows
// in order.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads) CombineKernel(Combination<T> op) {
  for (int64_t t = FirstRow(); t < op.tokens; t += RowStride()) {
    for (int64_t h = LaneId() * int64_t{kSize}; h < op.hidden; h += int64_t{kWarp} * kSize) {
      float sums[kSize] = {};
      if (op.base != nullptr) {
        const auto before = LoadPack<T, kSize>(op.base + t * op.hidden + h);
#pragma unroll
        for (int i = 0; i < kSize; ++i) sums[i] = ToFloat(before.values[i]);
      }
      for (int64_t j = t * op.k; j < (t + 1) * op.k; ++j) {
        if (op.positions[j] == kNoRow) continue;
        const float gate = op.gates == nullptr ? 1.0f : op.gates[j];
        const int64_t row = CheckedId("combine_rows", op.positions[j], j, op.num_rows) * op.hidden;
        const auto pack = LoadPack<T, kSize>(op.rows + row + h);
#pragma unroll
        for (int i = 0; i < kSize; ++i) sums[i] += gate * ToFloat(pack.values[i]);
      }
      Pack<T, kSize> result;
#pragma unroll
      for (int i = 0; i < kSize; ++i) result.values[i] = FromFloat<T>(sums[i]);
      StorePack(op.y + t * op.hidden + h, result);
    }
  }
}

template <typename T>
struct CombinationGradient {
  const T* dy;
  const T* rows;
  const int32_t* positions;
  const float* gates;
  T* drows;
  float* dgates;
  int64_t num_rows;
  int64_t copies;  // tokens * k
  int64_t k;
  int64_t hidden;
};

// The inputs of dgates are read before drows, which may be the same memory, is written.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads) CombineBackwardKernel(CombinationGradient<T> op) {
  for (int64_t copy = FirstRow(); copy < op.copies; copy += RowStride()) {
    if (op.positions[copy] == kNoRow) {
      if (LaneId() == 0) op.dgates[copy] = 0;
      continue;
    }
    const int64_t row =
        CheckedId("combine_rows_backward", op.positions[copy], copy, op.num_rows) * op.hidden;
    const T* dy = op.dy + copy / op.k * op.hidden;
    const float gate = op.gates[copy];
    float dot = 0;
    for (int64_t h = LaneId() * int64_t{kSize}; h < op.hidden; h += int64_t{kWarp} * kSize) {
      const auto dy_pack = LoadPack<T, kSize>(dy + h);
      auto pack = LoadPack<T, kSize>(op.rows + row + h);
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        const float gradient = ToFloat(dy_pack.values[i]);
        dot += gradient * ToFloat(pack.values[i]);
        pack.values[i] = FromFloat<T>(gate * gradient);
      }
      StorePack(op.drows + row + h, pack);
    }
    dot = WarpSum(dot);
    if (LaneId() == 0) op.dgates[copy] = dot;
  }
}

template <typename T, int kSize>
void Run(const CombineRows& op, Stream& stream) {
  LaunchKernel(CudaStream(stream), ShapeFor(op.y.dim(0)), CombineKernel<T, kSize>,
               Combination<T>{.rows = op.rows.as<T>(),
                              .positions = op.positions.as<int32_t>(),
                              .gates = op.gates.absent() ? nullptr : op.gates.as<float>(),
                              .base = op.base.absent() ? nullptr : op.base.as<T>(),
                              .y = op.y.as<T>(),
                              .num_rows = op.rows.dim(0),
                              .tokens = op.y.dim(0),
                              .k = op.positions.dim(1),
                              .hidden = op.y.dim(1)});
}

template <typename T, int kSize>
void Run(const CombineRowsBackward& op, Stream& stream) {
  LaunchKernel(CudaStream(stream), ShapeFor(op.positions.numel()), CombineBackwardKernel<T, kSize>,
               CombinationGradient<T>{.dy = op.dy.as<T>(),
                                      .rows = op.rows.as<T>(),
                                      .positions = op.positions.as<int32_t>(),
                                      .gates = op.gates.as<float>(),
                                      .drows = op.drows.as<T>(),
                                      .dgates = op.dgates.as<float>(),
                                      .num_rows = op.rows.dim(0),
                                      .copies = op.positions.numel(),
                                      .k = op.positions.dim(1),
                                      .hidden = op.dy.dim(1)});
}

template <typename Unit>
void RunGather(const GatherRows& op, int64_t row_bytes, Stream& stream) {
  LaunchKernel(CudaStream(stream), ShapeFor(op.y.dim(0)), GatherKernel<Unit>,
               static_cast<const Unit*>(op.x.data), op.index.as<int32_t>(),
               static_cast<Unit*>(op.y.data), op.y.dim(0),
               row_bytes / static_cast<int64_t>(sizeof(Unit)), op.x.dim(0));
}

}  // namespace

void ComputeOnCuda(const GatherRows& op, Stream& stream) {
  const int64_t row_bytes = op.y.dim(1) * static_cast<int64_t>(SizeOf(op.y.dtype));
  const bool aligned = Aligned(static_cast<char*>(op.x.data), static_cast<char*>(op.y.data));
  if (row_bytes % 16 == 0 && aligned) return RunGather<uint4>(op, row_bytes, stream);
  RunGather<uint16_t>(op, row_bytes, stream);
}

void ComputeOnCuda(const CombineRows& op, Stream& stream) {
  ForFloatType(op.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const bool packs = op.y.dim(1) % kPack<T> == 0 &&
                       Aligned(op.rows.as<T>(), op.y.as<T>(), static_cast<T*>(op.base.data));
    packs ? Run<T, kPack<T>>(op, stream) : Run<T, 1>(op, stream);
  });
}

void ComputeOnCuda(const CombineRowsBackward& op, Stream& stream) {
  ForFloatType(op.dy.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const bool packs =
        op.dy.dim(1) % kPack<T> == 0 && Aligned(op.dy.as<T>(), op.rows.as<T>(), op.drows.as<T>());
    packs ? Run<T, kPack<T>>(op, stream) : Run<T, 1>(op, stream);
  });
}

}  // namespace unipool
