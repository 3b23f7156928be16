// Grouped GEMM in one launch for all groups: persistent blocks loop over the tiles of all groups'
// rows.
#include "runtime/ops/fma_tile_cuda.h"
#include "runtime/ops/grouped_gemm.h"
#include "runtime/ops/mma_tile_cuda.h"
#include "runtime/ops/row_tiles_cuda.h"
#include "runtime/ops/wgmma_tile_cuda.h"

namespace unipool {
namespace {

template <typename T>
struct Product {
  const T* a;
  const T* weight;
  const int64_t* offsets;
  T* c;
  int groups;
  int n;
  int k;
};

// Tile shapes for many rows per group (Tall) and for few (Flat), for any GPU and for Hopper.
using TallShape = MmaShape<128, 256, 64, 64, 3>;
using FlatShape = MmaShape<64, 256, 32, 64, 3>;
using TallHopperShape = WgmmaShape<128, 256, 256, 4>;
using FlatHopperShape = WgmmaShape<64, 256, 128, 4>;
constexpr int64_t kFewRows = 64;  // average number of rows per group below which Flat is used

// The tiles of the product for a shape; `first` is shared memory for groups + 1 ints.
template <typename Shape>
__device__ RowTiles TilesOf(const Product<Bf16>& product, int* first) {
  return {product.offsets, first,           product.groups,
          Shape::kRows,    Shape::kColumns, CeilDivide(product.n, Shape::kColumns)};
}

// The walk (mma_tile_cuda.h) of one block over its tiles, and within a tile over k in steps of
// kInner.
template <typename Shape, bool kTransposeWeight>
class ProductWalk {
 public:
  __device__ ProductWalk(const Product<Bf16>& product, const RowTiles& tiles)
      : product_(product), tiles_(tiles), tile_(static_cast<int>(blockIdx.x)) {
    if (!Done()) at_ = tiles_.At(tile_);
  }

  __device__ bool Done() const { return tile_ >= tiles_.count(); }
  __device__ bool Idle() const { return at_.row + Shape::IdleRow() >= at_.row_end; }
  __device__ bool Last() const { return inner_ + Shape::kInner >= product_.k; }

  __device__ void Prepare() const {}
  __device__ void Load(Bf16* stage) const {
    const int64_t n = product_.n, k = product_.k;
    const int inner_left = product_.k - inner_, columns_left = product_.n - at_.column;
    CopyTile<Shape::kRows, Shape::kInner, Shape::kThreads>(
        product_.a + at_.row * k + inner_, k, at_.row_end - at_.row, inner_left, stage);
    Bf16* b = stage + Shape::kRows * Shape::kInner;
    const Bf16* weight = product_.weight + at_.group * n * k;
    if constexpr (kTransposeWeight) {
      CopyTile<Shape::kColumns, Shape::kInner, Shape::kThreads>(weight + at_.column * k + inner_, k,
                                                                columns_left, inner_left, b);
    } else {
      CopyTile<Shape::kInner, Shape::kColumns, Shape::kThreads>(weight + inner_ * n + at_.column, n,
                                                                inner_left, columns_left, b);
    }
  }

  // For two adjacent fragments, a lane and its neighbor exchange halves, so that each stores four
  // columns of one fragment and a row of both fills a whole memory sector.
  __device__ void Store(const MmaSums<Shape>& sums) const {
    const bool odd = LaneId() % 2 == 1;
    const int row = MmaRow<Shape>();
    const int column = MmaColumn<Shape>() + (odd ? 6 : 0);
#pragma unroll
    for (int m = 0; m < Shape::kRowFragments; ++m) {
#pragma unroll
      for (int n = 0; n < Shape::kColumnFragments; n += 2) {
#pragma unroll
        for (int i = 0; i < 4; i += 2) {
          const uint32_t left = PackBf16(sums[m][n][i], sums[m][n][i + 1]);
          const uint32_t right = PackBf16(sums[m][n + 1][i], sums[m][n + 1][i + 1]);
          const uint32_t other = __shfl_xor_sync(kAllLanes, odd ? left : right, 1);
          const Pack<uint32_t, 2> pack{odd ? other : left, odd ? right : other};
          StoreFour(row + m * 16 + i * 4, column + n * 8, pack);
        }
      }
    }
  }

  __device__ void Next() {
    inner_ += Shape::kInner;
    if (inner_ < product_.k) return;
    inner_ = 0;
    tile_ += static_cast<int>(gridDim.x);
    if (!Done()) at_ = tiles_.At(tile_);
  }

 private:
  __device__ void StoreFour(int row, int column, const Pack<uint32_t, 2>& pack) const {
    const int to_row = at_.row + row, to_column = at_.column + column;
    if (to_row >= at_.row_end || to_column >= product_.n) return;
    Bf16* to = product_.c + int64_t{to_row} * product_.n + to_column;
    *reinterpret_cast<Pack<uint32_t, 2>*>(to) = pack;
  }

  const Product<Bf16>& product_;
  const RowTiles& tiles_;
  int tile_;
  int inner_ = 0;
  RowTile at_ = {};
};

// Persistent blocks: each computes the tiles blockIdx.x, blockIdx.x + gridDim.x, .. on tensor
// cores.
template <typename Shape, bool kTransposeWeight>
__global__ void __launch_bounds__(Shape::kThreads, 1) MmaProductKernel(Product<Bf16> product) {
  Bf16* stages = DynamicShared<Bf16>();
  int* first = reinterpret_cast<int*>(stages + Shape::kStages * Shape::kStageElements);
  const RowTiles tiles = TilesOf<Shape>(product, first);
  tiles.List();
  MultiplyTilesAs<Shape, true, kTransposeWeight>(
      ProductWalk<Shape, kTransposeWeight>(product, tiles), stages);
}

// For any sizes and types, without tensor cores.
template <typename T, bool kTransposeWeight>
__global__ void __launch_bounds__(FmaTile::kThreads) FmaProductKernel(Product<T> product) {
  float* shared = DynamicShared<float>();
  const RowTiles tiles{product.offsets, reinterpret_cast<int*>(shared + FmaTile::kSharedFloats),
                       product.groups,  FmaTile::kSize,
                       FmaTile::kSize,  CeilDivide(product.n, FmaTile::kSize)};
  tiles.List();
  const int64_t n = product.n, k = product.k;
  for (int tile = static_cast<int>(blockIdx.x); tile < tiles.count();
       tile += static_cast<int>(gridDim.x)) {
    const RowTile at = tiles.At(tile);
    const T* weight = product.weight + at.group * n * k;
    const auto a = [&](int64_t row, int64_t inner) {
      return at.row + row < at.row_end ? ToFloat(product.a[(at.row + row) * k + inner]) : 0.0f;
    };
    const auto b = [&](int64_t column, int64_t inner) {
      const int64_t j = at.column + column;
      return j < n ? ToFloat(weight[kTransposeWeight ? j * k + inner : inner * n + j]) : 0.0f;
    };
    FmaTile fma;
    fma.Multiply<true, kTransposeWeight>(k, a, b, shared);
    fma.ForEach([&](int64_t row, int64_t column, float sum) {
      if (at.row + row >= at.row_end || at.column + column >= n) return;
      product.c[(at.row + row) * n + at.column + column] = FromFloat<T>(sum);
    });
  }
}

template <typename T>
Product<T> ProductOf(const GroupedGemm& op) {
  return {op.a.as<T>(),
          op.weight.as<T>(),
          op.offsets.as<int64_t>(),
          op.c.as<T>(),
          static_cast<int>(op.weight.dim(0)),
          static_cast<int>(op.c.dim(1)),
          static_cast<int>(op.a.dim(1))};
}

// Number of blocks: at most the number of tiles for any distribution of rows, and at most
// the number that the GPU runs at once. `tile` is {rows, columns, threads}.
LaunchShape PersistentShape(const GroupedGemm& op, Stream& stream, dim3 tile, size_t shared_bytes,
                            int blocks_a_multiprocessor) {
  const int64_t groups = op.weight.dim(0), rows = op.c.dim(0), n = op.c.dim(1);
  if (rows == 0 || n == 0) return {.grid = dim3(0), .block = dim3(tile.z)};
  const int64_t row_tiles = rows / tile.x + (groups < rows ? groups : rows);
  const int64_t max_tiles = row_tiles * CeilDivide<int64_t>(n, tile.y);
  const int64_t resident = NumMultiprocessors(stream) * blocks_a_multiprocessor;
  return {.grid = dim3(static_cast<unsigned>(max_tiles < resident ? max_tiles : resident)),
          .block = dim3(tile.z),
          .shared_bytes = shared_bytes + static_cast<size_t>(groups + 1) * sizeof(int)};
}

template <typename Shape>
void RunMma(const GroupedGemm& op, Stream& stream) {
  const LaunchShape shape = PersistentShape(
      op, stream, dim3(Shape::kRows, Shape::kColumns, Shape::kThreads), Shape::kSharedBytes, 1);
  LaunchKernel(CudaStream(stream), shape,
               op.transpose_weight ? MmaProductKernel<Shape, true> : MmaProductKernel<Shape, false>,
               ProductOf<Bf16>(op));
}

template <typename T>
void RunFma(const GroupedGemm& op, Stream& stream) {
  const LaunchShape shape =
      PersistentShape(op, stream, dim3(FmaTile::kSize, FmaTile::kSize, FmaTile::kThreads),
                      FmaTile::kSharedFloats * sizeof(float), 4);
  LaunchKernel(CudaStream(stream), shape,
               op.transpose_weight ? FmaProductKernel<T, true> : FmaProductKernel<T, false>,
               ProductOf<T>(op));
}

}  // namespace

void ComputeOnCuda(const GroupedGemm& op, Stream& stream) {
  if (op.c.dtype == DType::kFloat32) return RunFma<float>(op, stream);
  const bool chunks = op.a.dim(1) % 8 == 0 && op.c.dim(1) % 8 == 0 && op.a.dim(1) > 0 &&
                      Aligned(op.a.as<Bf16>(), op.weight.as<Bf16>(), op.c.as<Bf16>());
  if (!chunks) return RunFma<Bf16>(op, stream);
  const bool few = op.a.dim(0) < kFewRows * op.weight.dim(0);
  if (HasWgmma(stream)) {
    few ? RunMma<FlatHopperShape>(op, stream) : RunMma<TallHopperShape>(op, stream);
  } else {
    few ? RunMma<FlatShape>(op, stream) : RunMma<TallShape>(op, stream);
  }
}

}  // namespace unipool
