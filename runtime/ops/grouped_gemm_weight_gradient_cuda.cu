// Grouped weight gradient in one launch for all groups and layers: persistent blocks loop over the
// tiles of all gradients. The inner dimension of a tile runs over the group's rows of all layers as
// if they were contiguous, so that layers with few rows also fill the steps of the tensor cores.
#include "runtime/ops/fma_tile_cuda.h"
#include "runtime/ops/grouped_gemm.h"
#include "runtime/ops/mma_tile_cuda.h"
#include "runtime/ops/wgmma_tile_cuda.h"

namespace unipool {
namespace {

constexpr int kMaxLayers = 64;  // per launch
constexpr int kInner = 64;      // rows per step

template <typename T>
struct Gradient {
  const T* dy[kMaxLayers];
  const T* x[kMaxLayers];
  const int64_t* offsets[kMaxLayers];
  int layers;
  int groups;
  int out;
  int in;
  float* dweight;
};

using AnyShape = MmaShape<128, 256, 64, 64, 3>;
using HopperShape = WgmmaShape<128, 256, 256, 4>;

// Two rows, of dy and x, that are multiplied; null after the last row.
struct RowPair {
  const Bf16* dy;
  const Bf16* x;
};

// State of a block in shared memory.
struct GradientShared {
  RowPair pairs[2][kInner];   // rows of two steps
  int start[kMaxLayers + 1];  // prefix sums of the current group's rows of each layer
  int64_t begin[kMaxLayers];  // first row of the group in each layer
  int rows[1];                // [groups], number of rows in all layers
};

// rows[g] = number of rows of group g in all layers. All threads of the block must call it.
__device__ void SumRows(const Gradient<Bf16>& gradient, int* rows) {
  for (int g = static_cast<int>(threadIdx.x); g < gradient.groups;
       g += static_cast<int>(blockDim.x)) {
    int64_t sum = 0;
    for (int i = 0; i < gradient.layers; ++i) {
      sum += gradient.offsets[i][g + 1] - gradient.offsets[i][g];
    }
    rows[g] = static_cast<int>(sum);
  }
  __syncthreads();
}

// The walk (mma_tile_cuda.h) of one block over its tiles, and within a tile over the rows of the
// group in steps of kInner.
template <typename Shape>
class GradientWalk {
  static_assert(Shape::kInner == kInner);

 public:
  __device__ GradientWalk(const Gradient<Bf16>& gradient, GradientShared* shared)
      : gradient_(gradient),
        shared_(shared),
        column_tiles_(CeilDivide(gradient.in, Shape::kColumns)),
        tiles_of_group_(CeilDivide(gradient.out, Shape::kRows) * column_tiles_),
        tile_(static_cast<int>(blockIdx.x)) {
    SkipEmpty();
  }

  __device__ bool Done() const { return tile_ >= gradient_.groups * tiles_of_group_; }
  __device__ bool Idle() const { return false; }
  __device__ bool Last() const { return inner_ + Shape::kInner >= shared_->rows[group_]; }

  // Executed by the first warp.
  __device__ void Prepare() {
    if (Done() || WarpId() != 0) return;
    if (listed_group_ != group_) ListLayers();
    listed_group_ = group_;
    for (int i = LaneId(); i < Shape::kInner; i += kWarp) {
      shared_->pairs[step_ % 2][i] = PairAt(inner_ + i);
    }
  }

  __device__ void Load(Bf16* stage) const {
    const int row = tile_ % tiles_of_group_ / column_tiles_ * Shape::kRows;
    const int column = tile_ % column_tiles_ * Shape::kColumns;
    const RowPair* pairs = shared_->pairs[step_ % 2];
    CopyRows<Shape::kRows>([&](int i) { return pairs[i].dy; }, row, gradient_.out, stage);
    CopyRows<Shape::kColumns>([&](int i) { return pairs[i].x; }, column, gradient_.in,
                              stage + Shape::kRows * Shape::kInner);
  }

  __device__ void Store(const MmaSums<Shape>& sums) const {
    const int64_t in = gradient_.in;
    const int row = tile_ % tiles_of_group_ / column_tiles_ * Shape::kRows + MmaRow<Shape>();
    const int column = tile_ % column_tiles_ * Shape::kColumns + MmaColumn<Shape>();
    float* dweight = gradient_.dweight + (int64_t{group_} * gradient_.out + row) * in + column;
#pragma unroll
    for (int m = 0; m < Shape::kRowFragments; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        if (row + m * 16 + half * 8 >= gradient_.out) continue;
#pragma unroll
        for (int n = 0; n < Shape::kColumnFragments; ++n) {
          if (column + n * 8 >= gradient_.in) continue;
          float* to = dweight + (m * 16 + half * 8) * in + n * 8;
          auto pack = LoadPack<float, 2>(to);
          pack.values[0] += sums[m][n][half * 2];
          pack.values[1] += sums[m][n][half * 2 + 1];
          StorePack(to, pack);
        }
      }
    }
  }

  __device__ void Next() {
    ++step_;
    inner_ += Shape::kInner;
    if (inner_ < shared_->rows[group_]) return;
    inner_ = 0;
    tile_ += static_cast<int>(gridDim.x);
    SkipEmpty();
  }

 private:
  // Advances to the next tile of a group with rows; the gradients of other groups do not change.
  __device__ void SkipEmpty() {
    for (; !Done(); tile_ += static_cast<int>(gridDim.x)) {
      group_ = tile_ / tiles_of_group_;
      if (shared_->rows[group_] > 0) return;
    }
  }

  __device__ void ListLayers() {
    __syncwarp();
    int before = 0;
    for (int first = 0; first < gradient_.layers; first += kWarp) {
      const int layer = first + LaneId();
      int rows = 0;
      if (layer < gradient_.layers) {
        const int64_t* offsets = gradient_.offsets[layer];
        shared_->begin[layer] = offsets[group_];
        rows = static_cast<int>(offsets[group_ + 1] - offsets[group_]);
      }
      const int up_to_here = WarpPrefixSum(rows);
      if (layer < gradient_.layers) shared_->start[layer] = before + up_to_here - rows;
      before += __shfl_sync(kAllLanes, up_to_here, kWarp - 1);
    }
    if (LaneId() == 0) shared_->start[gradient_.layers] = before;
    __syncwarp();
  }

  // Returns row `inner` of the group's rows of all layers.
  __device__ RowPair PairAt(int inner) const {
    if (inner >= shared_->rows[group_]) return {nullptr, nullptr};
    int layer = 0, end = gradient_.layers;  // the row's layer is in [layer, end)
    while (end - layer > 1) {
      const int middle = (layer + end) / 2;
      (shared_->start[middle] <= inner ? layer : end) = middle;
    }
    const int64_t row = shared_->begin[layer] + inner - shared_->start[layer];
    return {gradient_.dy[layer] + row * gradient_.out, gradient_.x[layer] + row * gradient_.in};
  }

  // Starts the copy of columns [column, column + kWidth) of the rows of the step.
  template <int kWidth, typename RowAt>
  __device__ void CopyRows(const RowAt& row_at, int column, int columns, Bf16* to) const {
    constexpr int kChunks = kWidth / 8, kRowsAtOnce = Shape::kThreads / kChunks;
    static_assert(kRowsAtOnce % 8 == 0 && Shape::kInner % kRowsAtOnce == 0);
    const int row = static_cast<int>(threadIdx.x) / kChunks;
    const int chunk = static_cast<int>(threadIdx.x) % kChunks;
    const bool in_columns = column + chunk * 8 < columns;
    using Tile = SharedTile<kWidth, Shape::kInner>;
    Bf16* place = Tile{to}.Chunk(row, chunk);
#pragma unroll
    for (int i = 0; i < Shape::kInner; i += kRowsAtOnce) {
      const Bf16* from = row_at(row + i);
      const bool inside = in_columns && from != nullptr;
      const void* anywhere = gradient_.dweight;
      CopyAsync16(place + i * Tile::kPanel, inside ? from + column + chunk * 8 : anywhere, inside);
    }
  }

  const Gradient<Bf16>& gradient_;
  GradientShared* shared_;
  int column_tiles_;
  int tiles_of_group_;
  int tile_;
  int group_ = 0;
  int listed_group_ = -1;
  int inner_ = 0;
  int step_ = 0;
};

// Persistent blocks: each adds to the tiles blockIdx.x, blockIdx.x + gridDim.x, .. on tensor cores.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kThreads, 1) MmaGradientKernel(Gradient<Bf16> gradient) {
  Bf16* stages = DynamicShared<Bf16>();
  auto* shared = reinterpret_cast<GradientShared*>(stages + Shape::kStages * Shape::kStageElements);
  SumRows(gradient, shared->rows);
  MultiplyTilesAs<Shape, false, false>(GradientWalk<Shape>(gradient, shared), stages);
}

// For any sizes and types, without tensor cores. A block computes one tile of one group.
template <typename T>
__global__ void __launch_bounds__(FmaTile::kThreads) FmaGradientKernel(Gradient<T> gradient) {
  float* shared = DynamicShared<float>();
  const int64_t out = gradient.out, in = gradient.in;
  const int64_t group = blockIdx.z, first_row = int64_t{blockIdx.y} * FmaTile::kSize;
  const int64_t first_column = int64_t{blockIdx.x} * FmaTile::kSize;
  FmaTile fma;
  for (int i = 0; i < gradient.layers; ++i) {
    const int64_t begin = gradient.offsets[i][group], rows = gradient.offsets[i][group + 1] - begin;
    const T* dy = gradient.dy[i] + begin * out + first_row;
    const T* x = gradient.x[i] + begin * in + first_column;
    const auto a = [&](int64_t row, int64_t inner) {
      return first_row + row < out ? ToFloat(dy[inner * out + row]) : 0.0f;
    };
    const auto b = [&](int64_t column, int64_t inner) {
      return first_column + column < in ? ToFloat(x[inner * in + column]) : 0.0f;
    };
    fma.template Multiply<false, false>(rows, a, b, shared);
  }
  fma.ForEach([&](int64_t row, int64_t column, float sum) {
    if (first_row + row >= out || first_column + column >= in) return;
    gradient.dweight[(group * out + first_row + row) * in + first_column + column] += sum;
  });
}

template <typename T>
Gradient<T> GradientOf(const GroupedWeightGradient& op, int64_t first_layer) {
  Gradient<T> gradient = {};
  const int64_t left = op.num_layers - first_layer;
  gradient.layers = static_cast<int>(left < kMaxLayers ? left : kMaxLayers);
  for (int i = 0; i < gradient.layers; ++i) {
    const GroupedRows& layer = op.layers[first_layer + i];
    gradient.dy[i] = layer.dy.as<T>();
    gradient.x[i] = layer.x.as<T>();
    gradient.offsets[i] = layer.offsets.as<int64_t>();
  }
  gradient.groups = static_cast<int>(op.dweight.dim(0));
  gradient.out = static_cast<int>(op.dweight.dim(1));
  gradient.in = static_cast<int>(op.dweight.dim(2));
  gradient.dweight = op.dweight.as<float>();
  return gradient;
}

template <typename Shape>
void RunMma(const Gradient<Bf16>& gradient, Stream& stream) {
  const int64_t tiles = int64_t{gradient.groups} * CeilDivide(gradient.out, Shape::kRows) *
                        CeilDivide(gradient.in, Shape::kColumns);
  const int64_t resident = NumMultiprocessors(stream);
  const size_t shared_bytes = Shape::kSharedBytes + sizeof(GradientShared) +
                              static_cast<size_t>(gradient.groups) * sizeof(int);
  LaunchKernel(CudaStream(stream),
               {.grid = dim3(static_cast<unsigned>(tiles < resident ? tiles : resident)),
                .block = dim3(Shape::kThreads),
                .shared_bytes = shared_bytes},
               MmaGradientKernel<Shape>, gradient);
}

template <typename T>
void RunFma(const Gradient<T>& gradient, Stream& stream) {
  const dim3 grid(static_cast<unsigned>(CeilDivide(gradient.in, FmaTile::kSize)),
                  static_cast<unsigned>(CeilDivide(gradient.out, FmaTile::kSize)),
                  static_cast<unsigned>(gradient.groups));
  LaunchKernel(CudaStream(stream),
               {.grid = grid,
                .block = dim3(FmaTile::kThreads),
                .shared_bytes = FmaTile::kSharedFloats * sizeof(float)},
               FmaGradientKernel<T>, gradient);
}

}  // namespace

void ComputeOnCuda(const GroupedWeightGradient& op, Stream& stream) {
  bool chunks = op.dweight.dim(1) % 8 == 0 && op.dweight.dim(2) % 8 == 0;
  for (int64_t layer = 0; layer < op.num_layers; ++layer) {
    const GroupedRows& rows = op.layers[layer];
    chunks = chunks && Aligned(static_cast<char*>(rows.dy.data), static_cast<char*>(rows.x.data),
                               op.dweight.as<float>());
  }
  for (int64_t layer = 0; layer < op.num_layers; layer += kMaxLayers) {
    if (op.layers[layer].dy.dtype == DType::kFloat32) {
      RunFma(GradientOf<float>(op, layer), stream);
    } else if (chunks) {
      const Gradient<Bf16> gradient = GradientOf<Bf16>(op, layer);
      HasWgmma(stream) ? RunMma<HopperShape>(gradient, stream) : RunMma<AnyShape>(gradient, stream);
    } else {
      RunFma(GradientOf<Bf16>(op, layer), stream);
    }
  }
}

}  // namespace unipool
