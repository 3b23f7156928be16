// Tiled products of bf16 matrices on Hopper's tensor cores. It uses the walks and stages of
// mma_tile_cuda.h, but warpgroups multiply and read both operands from shared memory. Included only
// by *_cuda.cu.
#pragma once

#include <type_traits>

#include "runtime/ops/mma_tile_cuda.h"
#include "runtime/wgmma_cuda.h"

namespace unipool {

// Division of a result tile among a block's threads: each warpgroup computes 64 rows x
// kGroupColumns.
template <int kRowsArg, int kColumnsArg, int kGroupColumnsArg, int kStagesArg>
struct WgmmaShape {
  static constexpr bool kByWarpgroups = true;
  static constexpr int kRows = kRowsArg;
  static constexpr int kColumns = kColumnsArg;
  static constexpr int kGroupRows = 64;
  static constexpr int kGroupColumns = kGroupColumnsArg;
  static constexpr int kStages = kStagesArg;
  static constexpr int kInner = 64;
  static constexpr int kRowFragments = 1;
  static constexpr int kColumnFragments = kGroupColumns / 8;
  static constexpr int kGroupsAcross = kColumns / kGroupColumns;
  static constexpr int kThreads = kRows / kGroupRows * kGroupsAcross * 128;
  static constexpr int kStageElements = (kRows + kColumns) * kInner;
  static constexpr int kSharedBytes = kStages * kStageElements * 2;

  __device__ static int GroupRow() { return WarpId() / 4 / kGroupsAcross * kGroupRows; }
  __device__ static int GroupColumn() { return WarpId() / 4 % kGroupsAcross * kGroupColumns; }
  __device__ static int WarpRow() { return GroupRow() + WarpId() % 4 * 16; }
  __device__ static int WarpColumn() { return GroupColumn(); }
  // A warpgroup skips a step as a whole.
  __device__ static int IdleRow() { return GroupRow(); }
};

// Returns the matrix descriptor of 16 inner elements, starting at `inner`, of an operand of a
// stage, whose outer elements start at `outer`.
template <typename Shape, bool kAlongRows>
__device__ __forceinline__ uint64_t OperandAt(const Bf16* shared, int outer, int inner) {
  constexpr int kPanel = SharedTile<Shape::kInner, Shape::kRows>::kPanel;
  static_assert(Shape::kInner == kPanel);  // along the rows there is one panel
  if constexpr (kAlongRows) return WgmmaOperand(shared + outer * kPanel + inner, 0);
  constexpr int kPanelElements = Shape::kInner * kPanel;
  return WgmmaOperand(shared + outer / kPanel * kPanelElements + inner * kPanel,
                      kPanelElements * static_cast<int>(sizeof(Bf16)));
}

// Issues the product of one stage, sums = product, or sums += product if `add`. Does not wait for
// it.
template <typename Shape, bool kAAlongRows, bool kBAlongRows>
__device__ __forceinline__ void BeginStage(const Bf16* stage, bool add, MmaSums<Shape>& sums) {
  static_assert(Shape::kGroupColumns == 128 || Shape::kGroupColumns == 256);
  const Bf16* b = stage + Shape::kRows * Shape::kInner;
  BeginWgmma();
#pragma unroll
  for (int inner = 0; inner < Shape::kInner; inner += 16) {
    const uint64_t a_at = OperandAt<Shape, kAAlongRows>(stage, Shape::GroupRow(), inner);
    const uint64_t b_at = OperandAt<Shape, kBAlongRows>(b, Shape::GroupColumn(), inner);
    if constexpr (Shape::kGroupColumns == 128) {
      WgmmaN128<!kAAlongRows, !kBAlongRows>(sums[0][0], a_at, b_at, add || inner > 0);
    } else {
      WgmmaN256<!kAAlongRows, !kBAlongRows>(sums[0][0], a_at, b_at, add || inner > 0);
    }
  }
}

// Waits until all products that this warpgroup has issued are in their sums.
template <typename Shape>
__device__ __forceinline__ void WaitForSums(MmaSums<Shape>& sums) {
  WaitWgmma<0>();
#pragma unroll
  for (int n = 0; n < Shape::kColumnFragments; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) PinWgmmaSum(sums[0][n][i]);
  }
}

// The same as MultiplyTiles (mma_tile_cuda.h) with wgmma. The product of a step may still be
// running when the next one is issued, so copies go to the stage of the step before the previous
// one, which all warpgroups have finished.
template <typename Shape, bool kAAlongRows, bool kBAlongRows, typename Walk>
__device__ __forceinline__ void MultiplyTilesByWarpgroups(Walk here, Bf16* shared) {
  constexpr int kAhead = Shape::kStages - 2;  // steps that copies run ahead
  WalkAhead<Shape, Walk> ahead{here, shared};
  ahead.LoadFirst(kAhead);
  MmaSums<Shape> sums;
  ClearSums<Shape>(sums);
  int stage = 0, free_stage = kAhead;
  const auto next_stage = [](int* which) {
    *which = *which + 1 == Shape::kStages ? 0 : *which + 1;
  };
  // Runs the steps of one tile. Threads that only help to copy run a separate loop, so that the
  // compiler sees no branch around a product.
  const auto multiply = [&](auto idle) {
    for (bool add = false;; add = true) {
      WaitCopies<kAhead - 1>();
      FenceSharedForWgmma();
      __syncthreads();
      if constexpr (!decltype(idle)::value) {
        BeginStage<Shape, kAAlongRows, kBAlongRows>(shared + stage * Shape::kStageElements, add,
                                                    sums);
        CommitWgmma();
      }
      ahead.Load(free_stage);
      if constexpr (!decltype(idle)::value) WaitWgmma<1>();
      next_stage(&stage);
      next_stage(&free_stage);
      if (here.Last()) break;
      here.Next();
    }
    if constexpr (!decltype(idle)::value) WaitForSums<Shape>(sums);
  };
  while (!here.Done()) {
    if (__shfl_sync(kAllLanes, here.Idle() ? 1 : 0, 0) != 0) {
      multiply(std::true_type());
    } else {
      multiply(std::false_type());
      here.Store(sums);
    }
    here.Next();
  }
  WaitCopies<0>();
}

// Multiplies with the method of the shape. Kernels with wgmma are compiled for every GPU but are
// empty except on Hopper; the host checks HasWgmma before it launches them.
template <typename Shape, bool kAAlongRows, bool kBAlongRows, typename Walk>
__device__ __forceinline__ void MultiplyTilesAs(const Walk& walk, Bf16* shared) {
  if constexpr (!Shape::kByWarpgroups) {
    MultiplyTiles<Shape, kAAlongRows, kBAlongRows>(walk, shared);
  } else if constexpr (kHasWgmma) {
    MultiplyTilesByWarpgroups<Shape, kAAlongRows, kBAlongRows>(walk, shared);
  } else {
    __trap();
  }
}

}  // namespace unipool
