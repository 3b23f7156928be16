// Products of bf16 matrices on the tensor cores, a tile of the result at a time: operands go
// through a ring of stages in shared memory, sums stay in registers in float32 and are added in a
// fixed order. For *_cuda.cu only.
#pragma once

#include "runtime/kernel_cuda.h"
#include "runtime/ptx_cuda.h"

namespace unipool {

using Bf16 = __nv_bfloat16;

__device__ __forceinline__ uint32_t PackBf16(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  uint32_t bits;
  memcpy(&bits, &pair, sizeof(bits));
  return bits;
}

// A tile of bf16 rows in shared memory, in panels of 64 columns one after another. Chunk c (16
// bytes) of a panel's row r lies in place c ^ (r % 8), so that the eight rows which ldmatrix reads
// at one chunk lie in different banks; wgmma asks for just that.
template <int kColumns, int kRows>
struct SharedTile {
  static constexpr int kPanel = 64;
  static_assert(kColumns % kPanel == 0 && kRows % 8 == 0);
  Bf16* data;

  __device__ Bf16* Chunk(int row, int chunk) const {
    return data + chunk / 8 * (kRows * kPanel) + row * kPanel + (chunk % 8 ^ (row & 7)) * 8;
  }
};

// How a block of threads covers a tile of the result: each warp has kWarpRows x kWarpColumns of it,
// and the inner dimension is taken in steps of kInner, of which kStages are on their way at a time.
template <int kRowsArg, int kColumnsArg, int kWarpRowsArg, int kWarpColumnsArg, int kStagesArg>
struct MmaShape {
  static constexpr bool kByWarpgroups = false;
  static constexpr int kRows = kRowsArg;
  static constexpr int kColumns = kColumnsArg;
  static constexpr int kWarpRows = kWarpRowsArg;
  static constexpr int kWarpColumns = kWarpColumnsArg;
  static constexpr int kStages = kStagesArg;
  static constexpr int kInner = 64;
  static constexpr int kRowFragments = kWarpRows / 16;
  static constexpr int kColumnFragments = kWarpColumns / 8;
  static constexpr int kWarpsAcross = kColumns / kWarpColumns;
  static constexpr int kThreads = kRows / kWarpRows * kWarpsAcross * 32;
  static constexpr int kStageElements = (kRows + kColumns) * kInner;
  static constexpr int kSharedBytes = kStages * kStageElements * 2;

  __device__ static int WarpRow() { return WarpId() / kWarpsAcross * kWarpRows; }
  __device__ static int WarpColumn() { return WarpId() % kWarpsAcross * kWarpColumns; }
  // The first row of the threads that may skip a step together.
  __device__ static int IdleRow() { return WarpRow(); }
};

// A warp's sums: [m][n][i] as mma m16n8 lays them out over its lanes.
template <typename Shape>
using MmaSums = float[Shape::kRowFragments][Shape::kColumnFragments][4];

// Where sums[0][0][0] of this thread lies in the tile. Of sums[m][n], [0] is 16 m rows and 8 n
// columns on, [1] a column more, [2] and [3] eight rows more.
template <typename Shape>
__device__ __forceinline__ int MmaRow() {
  return Shape::WarpRow() + LaneId() / 4;
}
template <typename Shape>
__device__ __forceinline__ int MmaColumn() {
  return Shape::WarpColumn() + LaneId() % 4 * 2;
}

// Operands lie in shared memory with the inner dimension either along the rows of the tile
// (kAlongRows, [outer][inner]) or across them ([inner][outer], which ldmatrix then transposes).
// `outer` and `inner` are the first of 16 x 16 elements.
template <int kOuter, int kInner, bool kAlongRows>
__device__ __forceinline__ void LoadFragmentA(Bf16* shared, int outer, int inner,
                                              uint32_t (&fragment)[4]) {
  const int lane = LaneId();
  const int low = lane % 16, high = lane / 16;
  if constexpr (kAlongRows) {
    const SharedTile<kInner, kOuter> tile{shared};
    LoadMatrix4(fragment, tile.Chunk(outer + low, inner / 8 + high));
  } else {
    const SharedTile<kOuter, kInner> tile{shared};
    LoadMatrix4Transposed(fragment,
                          tile.Chunk(inner + lane % 8 + high * 8, outer / 8 + lane / 8 % 2));
  }
}

// Two column fragments at once: [0] and [1] are the first's, [2] and [3] the second's.
template <int kOuter, int kInner, bool kAlongRows>
__device__ __forceinline__ void LoadFragmentsB(Bf16* shared, int outer, int inner,
                                               uint32_t (&fragment)[4]) {
  const int lane = LaneId();
  const int low = lane % 16, high = lane / 16;
  if constexpr (kAlongRows) {
    const SharedTile<kInner, kOuter> tile{shared};
    LoadMatrix4(fragment, tile.Chunk(outer + lane % 8 + high * 8, inner / 8 + lane / 8 % 2));
  } else {
    const SharedTile<kOuter, kInner> tile{shared};
    LoadMatrix4Transposed(fragment, tile.Chunk(inner + low, outer / 8 + high));
  }
}

// sums += the product of one stage.
template <typename Shape, bool kAAlongRows, bool kBAlongRows>
__device__ __forceinline__ void MultiplyStage(Bf16* stage, MmaSums<Shape>& sums) {
  Bf16* a = stage;
  Bf16* b = stage + Shape::kRows * Shape::kInner;
  const int row = Shape::WarpRow(), column = Shape::WarpColumn();
#pragma unroll
  for (int inner = 0; inner < Shape::kInner; inner += 16) {
    uint32_t a_fragments[Shape::kRowFragments][4];
#pragma unroll
    for (int m = 0; m < Shape::kRowFragments; ++m) {
      LoadFragmentA<Shape::kRows, Shape::kInner, kAAlongRows>(a, row + m * 16, inner,
                                                              a_fragments[m]);
    }
#pragma unroll
    for (int n = 0; n < Shape::kColumnFragments; n += 2) {
      uint32_t b_fragments[4];
      LoadFragmentsB<Shape::kColumns, Shape::kInner, kBAlongRows>(b, column + n * 8, inner,
                                                                  b_fragments);
#pragma unroll
      for (int m = 0; m < Shape::kRowFragments; ++m) {
        MmaBf16M16N8K16(sums[m][n], a_fragments[m], b_fragments);
        MmaBf16M16N8K16(sums[m][n + 1], a_fragments[m], b_fragments + 2);
      }
    }
  }
}

template <typename Shape>
__device__ __forceinline__ void ClearSums(MmaSums<Shape>& sums) {
#pragma unroll
  for (int m = 0; m < Shape::kRowFragments; ++m) {
#pragma unroll
    for (int n = 0; n < Shape::kColumnFragments; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] = 0;
    }
  }
}

// Starts the copies of one step of a walk after the other.
template <typename Shape, typename Walk>
struct WalkAhead {
  Walk walk;
  Bf16* shared;  // of all stages

  // A group of copies even where no step is left. A barrier comes before it.
  __device__ __forceinline__ void Load(int stage) {
    if (!walk.Done()) {
      walk.Load(shared + stage * Shape::kStageElements);
      walk.Next();
      walk.Prepare();
    }
    CommitCopies();
  }
  __device__ __forceinline__ void LoadFirst(int steps) {
    walk.Prepare();
    for (int stage = 0; stage < steps; ++stage) {
      __syncthreads();
      Load(stage);
    }
  }
};

// Computes all tiles of a walk. The copies for a tile's first steps are on their way while the one
// before it is stored, so that the tensor cores wait for memory once a block, not once a tile.
// A Walk is copied to run ahead of itself, and has
//   bool Done()          no step is left
//   void Prepare()       finds what Load will read; a barrier comes between the two
//   void Load(stage)     starts the copies of the step's operands
//   bool Idle()          this warp's, or warpgroup's, part of the tile is outside of the result
//   bool Last()          the step completes its tile
//   void Store(sums)     takes the tile's sums
//   void Next()          goes to the next step, of a next tile where this one has no more
template <typename Shape, bool kAAlongRows, bool kBAlongRows, typename Walk>
__device__ __forceinline__ void MultiplyTiles(Walk here, Bf16* shared) {
  WalkAhead<Shape, Walk> ahead{here, shared};
  ahead.LoadFirst(Shape::kStages - 1);
  MmaSums<Shape> sums;
  ClearSums<Shape>(sums);
  int stage = 0, free_stage = Shape::kStages - 1;
  while (!here.Done()) {
    WaitCopies<Shape::kStages - 2>();
    __syncthreads();
    ahead.Load(free_stage);
    if (!here.Idle()) {
      MultiplyStage<Shape, kAAlongRows, kBAlongRows>(shared + stage * Shape::kStageElements, sums);
    }
    if (here.Last()) {
      here.Store(sums);
      ClearSums<Shape>(sums);
    }
    here.Next();
    free_stage = stage;
    stage = stage + 1 == Shape::kStages ? 0 : stage + 1;
  }
  WaitCopies<0>();
}

// Starts the copy of a [kRows, kColumns] tile of a row-major matrix of which rows_left and
// columns_left (a multiple of 8) remain; the tile's rest becomes zeros.
template <int kRows, int kColumns, int kThreads>
__device__ __forceinline__ void CopyTile(const Bf16* source, int64_t stride, int rows_left,
                                         int columns_left, Bf16* shared) {
  constexpr int kChunks = kColumns / 8;
  constexpr int kRowsAtOnce = kThreads / kChunks;
  static_assert(kThreads % kChunks == 0 && kRows % kRowsAtOnce == 0);
  const int row = static_cast<int>(threadIdx.x) / kChunks;
  const int chunk = static_cast<int>(threadIdx.x) % kChunks;
  using Tile = SharedTile<kColumns, kRows>;
  Bf16* to = Tile{shared}.Chunk(row, chunk);
  const Bf16* from = source + row * stride + chunk * 8;
  rows_left = chunk * 8 < columns_left ? rows_left - row : 0;
#pragma unroll
  for (int i = 0; i < kRows; i += kRowsAtOnce) {
    static_assert(kRowsAtOnce % 8 == 0);  // the same place of the chunk in each row
    CopyAsync16(to + i * Tile::kPanel, i < rows_left ? from : source, i < rows_left);
    from += kRowsAtOnce * stride;
  }
}

}  // namespace unipool
