// SwiGLU kernels. A thread processes a pack of kSize columns of one or more rows; arithmetic is in
// float32.
#include "runtime/ops/swiglu.h"

#include "runtime/kernel_cuda.h"

namespace unipool {
namespace {

constexpr int kThreads = 128;

// Blocks along x cover one row; blocks along y cover the rows, with a stride if there are more rows
// than blocks.
LaunchShape RowsShape(int64_t rows, int64_t packs) {
  constexpr int64_t kMaxRows = 32768;
  return {.grid = dim3(static_cast<unsigned>(CeilDivide<int64_t>(packs, kThreads)),
                       static_cast<unsigned>(rows < kMaxRows ? rows : kMaxRows)),
          .block = dim3(kThreads)};
}

// The rows of a tensor that are computed: all of them, or those that offsets in device memory
// bound.
struct RowRange {
  int64_t all;
  const int64_t* first;  // or null
  const int64_t* last;

  RowRange(const Tensor& offsets, int64_t rows)
      : all(rows),
        first(offsets.absent() ? nullptr : offsets.as<int64_t>()),
        last(first == nullptr ? nullptr : first + offsets.numel() - 1) {}
  __device__ __forceinline__ int64_t count() const {
    return first == nullptr ? all : *last - *first;
  }
};

__device__ __forceinline__ float Sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads)
    ForwardKernel(const T* gate_up, T* y, RowRange range, int64_t ffn) {
  const int64_t f = GlobalThread() * kSize;
  if (f >= ffn) return;
  const int64_t rows = range.count();
  for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const auto gate = LoadPack<T, kSize>(gate_up + r * 2 * ffn + f);
    const auto up = LoadPack<T, kSize>(gate_up + r * 2 * ffn + ffn + f);
    Pack<T, kSize> result;
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const float g = ToFloat(gate.values[i]);
      result.values[i] = FromFloat<T>(g * Sigmoid(g) * ToFloat(up.values[i]));
    }
    StorePack(y + r * ffn + f, result);
  }
}

template <typename T>
struct Backward {
  const T* dy;
  const T* gate_up;
  T* dgate_up;
  T* y;  // or null
  RowRange range;
  int64_t ffn;
};

// The outputs may alias the inputs: a thread reads all inputs of an element before it writes any of
// its outputs.
template <typename T, int kSize>
__global__ void __launch_bounds__(kThreads) BackwardKernel(Backward<T> op) {
  const int64_t f = GlobalThread() * kSize;
  if (f >= op.ffn) return;
  const int64_t rows = op.range.count();
  for (int64_t r = blockIdx.y; r < rows; r += gridDim.y) {
    const int64_t at = r * 2 * op.ffn + f;
    const auto gate = LoadPack<T, kSize>(op.gate_up + at);
    const auto up = LoadPack<T, kSize>(op.gate_up + at + op.ffn);
    const auto dy = LoadPack<T, kSize>(op.dy + r * op.ffn + f);
    Pack<T, kSize> dgate, dup, y;
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const float g = ToFloat(gate.values[i]), u = ToFloat(up.values[i]), d = ToFloat(dy.values[i]);
      const float sigmoid = Sigmoid(g), silu = g * sigmoid;
      dgate.values[i] = FromFloat<T>(d * u * sigmoid * (1.0f + g * (1.0f - sigmoid)));
      dup.values[i] = FromFloat<T>(d * silu);
      y.values[i] = FromFloat<T>(silu * u);
    }
    StorePack(op.dgate_up + at, dgate);
    StorePack(op.dgate_up + at + op.ffn, dup);
    if (op.y != nullptr) StorePack(op.y + r * op.ffn + f, y);
  }
}

template <typename T, int kSize>
void Run(const SwiGluForward& op, Stream& stream) {
  const int64_t rows = op.y.dim(0), ffn = op.y.dim(1);
  LaunchKernel(CudaStream(stream), RowsShape(rows, ffn / kSize), ForwardKernel<T, kSize>,
               op.gate_up.as<T>(), op.y.as<T>(), RowRange(op.offsets, rows), ffn);
}

template <typename T, int kSize>
void Run(const SwiGluBackward& op, Stream& stream) {
  const int64_t rows = op.dy.dim(0), ffn = op.dy.dim(1);
  LaunchKernel(CudaStream(stream), RowsShape(rows, ffn / kSize), BackwardKernel<T, kSize>,
               Backward<T>{.dy = op.dy.as<T>(),
                           .gate_up = op.gate_up.as<T>(),
                           .dgate_up = op.dgate_up.as<T>(),
                           .y = op.y.absent() ? nullptr : op.y.as<T>(),
                           .range = RowRange(op.offsets, rows),
                           .ffn = ffn});
}

}  // namespace

void ComputeOnCuda(const SwiGluForward& op, Stream& stream) {
  ForFloatType(op.y.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const bool packs = op.y.dim(1) % kPack<T> == 0 && Aligned(op.gate_up.as<T>(), op.y.as<T>());
    packs ? Run<T, kPack<T>>(op, stream) : Run<T, 1>(op, stream);
  });
}

void ComputeOnCuda(const SwiGluBackward& op, Stream& stream) {
  ForFloatType(op.dy.dtype, [&](auto tag) {
    using T = typename decltype(tag)::Type;
    const bool packs =
        op.dy.dim(1) % kPack<T> == 0 &&
        Aligned(op.dy.as<T>(), op.gate_up.as<T>(), op.dgate_up.as<T>(), static_cast<T*>(op.y.data));
    packs ? Run<T, kPack<T>>(op, stream) : Run<T, 1>(op, stream);
  });
}

}  // namespace unipool
