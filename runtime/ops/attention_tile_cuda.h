// Shared parts of the attention kernels: the layout of heads in memory, tiles of one head's rows in
// shared memory, and the two matrix products of attention on tensor cores. Included only by
// *_cuda.cu.
#pragma once

#include <cmath>

#include "runtime/cudnn_cuda.h"
#include "runtime/ops/mma_tile_cuda.h"
#include "runtime/tensor.h"

namespace unipool {

struct HeadLayout {
  int64_t tokens;
  int sequence;
  int heads;
  int kv_heads;
  int head_dim;
  float scale;  // 1 / sqrt(head_dim), factor of the scores

  template <typename Op>
  static HeadLayout Of(const Op& op) {
    const int head_dim = static_cast<int>(op.out.dim(1) / op.heads);
    return {op.out.dim(0),
            static_cast<int>(op.sequence),
            static_cast<int>(op.heads),
            static_cast<int>(op.kv_heads),
            head_dim,
            1.0f / std::sqrt(static_cast<float>(head_dim))};
  }

  __host__ __device__ int group() const { return heads / kv_heads; }
  __host__ __device__ int64_t qkv_stride() const {
    return static_cast<int64_t>(heads + 2 * kv_heads) * head_dim;
  }
  __host__ __device__ int64_t out_stride() const { return static_cast<int64_t>(heads) * head_dim; }
  __device__ int64_t Query(int64_t token, int head) const {
    return token * qkv_stride() + head * head_dim;
  }
  __device__ int64_t Key(int64_t token, int kv_head) const { return Query(token, heads + kv_head); }
  __device__ int64_t Value(int64_t token, int kv_head) const {
    return Query(token, heads + kv_heads + kv_head);
  }
  __device__ int64_t Out(int64_t token, int head) const {
    return token * out_stride() + head * head_dim;
  }
  // Index of a query's lse and dot; `origin` is the first token of its sequence.
  __device__ int64_t Statistic(int64_t origin, int head, int64_t query) const {
    return origin * heads + int64_t{head} * sequence + query;
  }
};

// Converts the op to the arguments of cuDNN, without the gradients.
template <typename Op>
CudnnAttention CudnnAttentionOf(const Op& op) {
  return {.shape = {.backward = false,
                    .sequences = op.out.dim(0) / op.sequence,
                    .sequence = op.sequence,
                    .heads = op.heads,
                    .kv_heads = op.kv_heads,
                    .head_dim = op.out.dim(1) / op.heads},
          .qkv = op.qkv.data,
          .out = op.out.data,
          .lse = op.lse.template as<float>()};
}

// Work of one thread block: `rows` tokens of one head of one sequence. Blocks at the end of a
// sequence are scheduled first: for queries they have the most work, so the last blocks to run are
// small.
struct HeadBlock {
  int64_t origin;  // first token of the sequence
  int head;
  int first;  // first token of the block, relative to origin
  int rows_left;

  __device__ static HeadBlock Of(const HeadLayout& layout, int heads, int rows, int64_t item) {
    const int blocks = CeilDivide(layout.sequence, rows);
    const int64_t columns = layout.tokens / layout.sequence * heads;
    const int first = (blocks - 1 - static_cast<int>(item / columns)) * rows;
    const int64_t column = item % columns;
    return {column / heads * layout.sequence, static_cast<int>(column % heads), first,
            layout.sequence - first};
  }
  static int64_t Count(const HeadLayout& layout, int heads, int rows) {
    return layout.tokens / layout.sequence * heads * CeilDivide(layout.sequence, rows);
  }
};

// A tile of rows of one head in shared memory. Each row is padded by 16 bytes, so the eight rows
// that ldmatrix reads at once are in different banks.
template <int kDim>
struct HeadTile {
  static constexpr int kStride = kDim + 8;
  static_assert(kDim % 16 == 0);

  __device__ static Bf16* At(Bf16* tile, int row, int column) {
    return tile + row * kStride + column;
  }

  // Starts asynchronous copies of kRows rows that are `stride` elements apart in global memory.
  // Rows from rows_left on and columns from head_dim on become zeros.
  template <int kRows, int kThreads>
  __device__ static void Copy(const Bf16* source, int64_t stride, int rows_left, int head_dim,
                              Bf16* tile) {
    constexpr int kRowsAtOnce = kThreads / 4;  // four threads per row
    static_assert(kRows % kRowsAtOnce == 0 && kDim % 32 == 0);
    const int row = static_cast<int>(threadIdx.x) / 4,
              column = static_cast<int>(threadIdx.x) % 4 * 8;
    const Bf16* from = source + row * stride + column;
    Bf16* to = At(tile, row, column);
#pragma unroll
    for (int i = 0; i < kRows; i += kRowsAtOnce) {
#pragma unroll
      for (int d = 0; d < kDim; d += 32) {
        const bool inside = row + i < rows_left && column + d < head_dim;
        CopyAsync16(to + i * kStride + d, inside ? from + d : source, inside);
      }
      from += kRowsAtOnce * stride;
    }
  }
};

// A warp's sums: kRows fragments of 16 rows by kColumns fragments of 8 columns.
template <int kRows, int kColumns>
using HeadSums = float[kRows][kColumns][4];

template <int kRows, int kColumns>
__device__ __forceinline__ void Clear(HeadSums<kRows, kColumns>& sums) {
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[m][n][i] = 0;
    }
  }
}

// sums[i][j] = sum_d a[row + i][d] * b[j][d]
template <int kDim, int kRows, int kColumns>
__device__ __forceinline__ void MultiplyRows(Bf16* a, int row, Bf16* b,
                                             HeadSums<kRows, kColumns>& sums) {
  using Tile = HeadTile<kDim>;
  const int lane = LaneId();
  Clear(sums);
#pragma unroll
  for (int d = 0; d < kDim; d += 16) {
    uint32_t left[kRows][4];
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      LoadMatrix4(left[m], Tile::At(a, row + m * 16 + lane % 16, d + lane / 16 * 8));
    }
#pragma unroll
    for (int n = 0; n < kColumns; n += 2) {
      uint32_t right[4];
      LoadMatrix4(right, Tile::At(b, n * 8 + lane % 8 + lane / 16 * 8, d + lane / 8 % 2 * 8));
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        MmaBf16M16N8K16(sums[m][n], left[m], right);
        MmaBf16M16N8K16(sums[m][n + 1], left[m], right + 2);
      }
    }
  }
}

// sums[i][d] += sum_j weights[i][j] * b[j][d], with the weights rounded to bf16
template <int kDim, int kRows, int kColumns>
__device__ __forceinline__ void AddWeightedRows(const HeadSums<kRows, kColumns>& weights, Bf16* b,
                                                HeadSums<kRows, kDim / 8>& sums) {
  const int lane = LaneId();
#pragma unroll
  for (int j = 0; j < kColumns; j += 2) {
    uint32_t left[kRows][4];
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      left[m][0] = PackBf16(weights[m][j][0], weights[m][j][1]);
      left[m][1] = PackBf16(weights[m][j][2], weights[m][j][3]);
      left[m][2] = PackBf16(weights[m][j + 1][0], weights[m][j + 1][1]);
      left[m][3] = PackBf16(weights[m][j + 1][2], weights[m][j + 1][3]);
    }
#pragma unroll
    for (int d = 0; d < kDim / 8; d += 2) {
      uint32_t right[4];
      LoadMatrix4Transposed(right, HeadTile<kDim>::At(b, j * 8 + lane % 16, d * 8 + lane / 16 * 8));
#pragma unroll
      for (int m = 0; m < kRows; ++m) {
        MmaBf16M16N8K16(sums[m][d], left[m], right);
        MmaBf16M16N8K16(sums[m][d + 1], left[m], right + 2);
      }
    }
  }
}

// to[row * stride + d] = sums * scale for the rows of the fragment below rows_left. `row` is the
// first row of the fragment; scale_low applies to its rows 0..7 and scale_high to rows 8..15.
template <int kDim>
__device__ __forceinline__ void StoreRows(const float (&sums)[kDim / 8][4], int row, int rows_left,
                                          int head_dim, float scale_low, float scale_high, Bf16* to,
                                          int64_t stride) {
  const int low = row + LaneId() / 4, column = LaneId() % 4 * 2;
#pragma unroll
  for (int d = 0; d < kDim / 8; ++d) {
    if (d * 8 >= head_dim) continue;
    Bf16* at = to + low * stride + d * 8 + column;
    if (low < rows_left) {
      *reinterpret_cast<uint32_t*>(at) = PackBf16(sums[d][0] * scale_low, sums[d][1] * scale_low);
    }
    if (low + 8 < rows_left) {
      *reinterpret_cast<uint32_t*>(at + 8 * stride) =
          PackBf16(sums[d][2] * scale_high, sums[d][3] * scale_high);
    }
  }
}

}  // namespace unipool
