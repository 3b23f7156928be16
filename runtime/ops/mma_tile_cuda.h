// Tiled products of bf16 matrices on tensor cores. Operands pass through a ring of stages in shared
// memory; sums stay in registers in float32 and are added in a fixed order. Included only by
// *_cuda.cu.
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

// A tile of bf16 rows in shared memory, stored in consecutive panels of 64 columns. Chunk c (16
// bytes) of row r of a panel is stored at chunk position c ^ (r % 8), so that the eight rows which
// ldmatrix reads at one chunk are in different banks. wgmma requires the same layout.
template <int kColumns, int kRows>
struct SharedTile {
  static constexpr int kPanel = 64;
  static_assert(kColumns % kPanel == 0 && kRows % 8 == 0);
  Bf16* data;

  __device__ Bf16* Chunk(int row, int chunk) const {
    return data + chunk / 8 * (kRows * kPanel) + row * kPanel + (chunk % 8 ^ (row & 7)) * 8;
  }
};

// Division of a result tile among a block's warps: each warp computes kWarpRows x kWarpColumns. The
// inner dimension is processed in steps of kInner; kStages steps are in flight at a time.
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
  // First row of the threads that skip a step together.
  __device__ static int IdleRow() { return WarpRow(); }
};

// A warp's sums: [m][n][i] with the layout of mma m16n8 over the lanes.
template <typename Shape>
using MmaSums = float[Shape::kRowFragments][Shape::kColumnFragments][4];

// Row and column of this thread's sums[0][0][0] in the tile. sums[m][n][0] is 16 m rows and 8 n
// columns further, [1] one column more, [2] and [3] eight rows more.
template <typename Shape>
__device__ __forceinline__ int MmaRow() {
  return Shape::WarpRow() + LaneId() / 4;
}
template <typename Shape>
__device__ __forceinline__ int MmaColumn() {
  return Shape::WarpColumn() + LaneId() % 4 * 2;
}

// Loads a fragment of 16 x 16 elements, starting at `outer` and `inner`. In shared memory the inner
// dimension of an operand runs either along the rows of the tile (kAlongRows, [outer][inner]) or
// across them ([inner][outer], transposed by ldmatrix).
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

// Loads two column fragments: fragment[0..1] is the first, fragment[2..3] the second.
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

// Runs ahead of the computation and starts the copies of one step of a walk after the other.
template <typename Shape, typename Walk>
struct WalkAhead {
  Walk walk;
  Bf16* shared;  // shared memory of all stages

  // Commits a group of copies even if no step is left. A barrier must precede the call.
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

// Computes all tiles of a walk. The copies for the first steps of a tile are in flight while the
// previous tile is stored, so the tensor cores wait for memory once per block, not once per tile. A
// Walk is copied, so that one copy can run ahead of the other, and has
//   bool Done()          returns true if no step is left
//   void Prepare()       computes what Load will read; a barrier separates the two
//   void Load(stage)     starts the copies of the operands of the step
//   bool Idle()          returns true if the part of the tile of this warp (or warpgroup) is
//                        outside of the result
//   bool Last()          returns true if the step completes its tile
//   void Store(sums)     stores the sums of the tile
//   void Next()          advances to the next step, of the next tile if this one is complete
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

// Starts the copy of a [kRows, kColumns] tile of a row-major matrix. rows_left and columns_left (a
// multiple of 8) are the rows and columns that remain in the matrix; the rest of the tile becomes
// zeros.
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
    // so the chunk has the same position in each of these rows
    static_assert(kRowsAtOnce % 8 == 0);
    CopyAsync16(to + i * Tile::kPanel, i < rows_left ? from : source, i < rows_left);
    from += kRowsAtOnce * stride;
  }
}

}  // namespace unipool
