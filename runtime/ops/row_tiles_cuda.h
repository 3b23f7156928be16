// Tiles of a result matrix whose rows are sorted by group: group g has rows [offsets[g],
// offsets[g+1]), counted from offsets[0]. The tiles are listed on the device, because the offsets
// are in device memory. Included only by *_cuda.cu.
#pragma once

#include "runtime/kernel_cuda.h"

namespace unipool {

// One tile: its first row and column in the result. The group's rows end before row_end.
struct RowTile {
  int group;
  int row;
  int row_end;
  int column;
};

struct RowTiles {
  // Limit, because a block lists the groups in shared memory.
  static constexpr int kMaxGroups = 4096;

  const int64_t* offsets;
  int* first;  // shared memory: number of row tiles of all groups before g, for g in [0, groups]
  int groups;
  int tile_rows;
  int tile_columns;
  int column_tiles;

  // Fills `first`. All threads of the block must call it; they may read `first` after it returns.
  __device__ void List() const {
    if (WarpId() == 0) ListByWarp();
    __syncthreads();
  }

  __device__ int count() const { return first[groups] * column_tiles; }

  // Returns a tile by its index. Row tiles of a group that read the same part of its weight have
  // consecutive indices, so blocks that run at the same time share it in the cache.
  __device__ RowTile At(int tile) const {
    int low = 0, high = groups;  // the tile's group is in [low, high)
    while (high - low > 1) {
      const int middle = (low + high) / 2;
      (first[middle] * column_tiles <= tile ? low : high) = middle;
    }
    const int inside = tile - first[low] * column_tiles;
    const int row_tiles = first[low + 1] - first[low];
    const auto before = offsets[0];
    return {low, static_cast<int>(offsets[low] - before) + inside % row_tiles * tile_rows,
            static_cast<int>(offsets[low + 1] - before), inside / row_tiles * tile_columns};
  }

  __device__ void ListByWarp() const {
    int before = 0;
    for (int begin = 0; begin < groups; begin += kWarp) {
      const int group = begin + LaneId();
      int tiles = 0;
      if (group < groups) {
        tiles = CeilDivide(static_cast<int>(offsets[group + 1] - offsets[group]), tile_rows);
      }
      const int up_to_here = WarpPrefixSum(tiles);
      if (group < groups) first[group] = before + up_to_here - tiles;
      before += __shfl_sync(kAllLanes, up_to_here, kWarp - 1);
    }
    if (LaneId() == 0) first[groups] = before;
  }
};

}  // namespace unipool
