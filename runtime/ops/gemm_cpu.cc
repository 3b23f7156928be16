#include <glog/logging.h>

#include <algorithm>
#include <cstring>

#include "runtime/blas.h"
#include "runtime/ops/gemm.h"

namespace unipool {
namespace {

// Each tile of c is one product of the library on one thread. The bits of a tile depend on its
// shape and position, so the tiles depend only on the shape of c, never on the number of threads.
struct Tiles {
  int64_t rows;
  int64_t columns;
  int64_t across;  // number of tiles along a row
  int64_t count;
};

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Large tiles spend little time on packing the operands, but there should be several for the
// threads.
Tiles TilesOf(int64_t m, int64_t n) {
  constexpr int64_t kMaxSize = 1024, kMinSize = 128, kMinTiles = 8;
  Tiles tiles{
      .rows = std::min(m, kMaxSize), .columns = std::min(n, kMaxSize), .across = 0, .count = 0};
  while (true) {
    tiles.across = CeilDivide(n, tiles.columns);
    tiles.count = tiles.across * CeilDivide(m, tiles.rows);
    int64_t& longer = tiles.rows >= tiles.columns ? tiles.rows : tiles.columns;
    if (tiles.count >= kMinTiles || longer <= kMinSize) return tiles;
    longer = std::max(kMinSize, longer / 2);
  }
}

}  // namespace

void Gemm::Check() const {
  CHECK(a.rank == 2 && b.rank == 2 && c.rank == 2)
      << a.ShapeString() << " * " << b.ShapeString() << " = " << c.ShapeString();
  const int64_t m = a.dim(transpose_a ? 1 : 0), k = a.dim(transpose_a ? 0 : 1);
  CHECK_EQ(b.dim(transpose_b ? 1 : 0), k) << a.ShapeString() << " * " << b.ShapeString();
  CHECK(c.dim(0) == m && c.dim(1) == b.dim(transpose_b ? 0 : 1))
      << a.ShapeString() << " * " << b.ShapeString() << " = " << c.ShapeString();
  CHECK(base.absent() || (accumulate && base.SameShape(c) && base.dtype == c.dtype))
      << base.ShapeString() << " for " << c.ShapeString();
}

namespace {

void CopyBlock(const float* from, float* to, int64_t rows, int64_t columns, int64_t stride) {
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(to + i * stride, from + i * stride, static_cast<size_t>(columns) * sizeof(float));
  }
}

}  // namespace

void ComputeOnCpu(const Gemm& op) {
  const int64_t m = op.c.dim(0), n = op.c.dim(1), k = op.a.dim(op.transpose_a ? 0 : 1);
  if (m == 0 || n == 0) return;
  const float* a = op.a.as<float>();
  const float* b = op.b.as<float>();
  float* c = op.c.as<float>();
  const int64_t a_stride = op.a.dim(1), b_stride = op.b.dim(1);
  const float* base = op.base.absent() ? c : op.base.as<float>();
  const Tiles tiles = TilesOf(m, n);
#pragma omp parallel for schedule(dynamic)
  for (int64_t tile = 0; tile < tiles.count; ++tile) {
    const int64_t row = tile / tiles.across * tiles.rows;
    const int64_t column = tile % tiles.across * tiles.columns;
    const int64_t rows = std::min(tiles.rows, m - row);
    const int64_t columns = std::min(tiles.columns, n - column);
    const int64_t at = row * n + column;
    if (base != c) CopyBlock(base + at, c + at, rows, columns, n);
    RunSgemm({.m = rows,
              .n = columns,
              .k = k,
              .a = {a + row * (op.transpose_a ? 1 : a_stride), a_stride, op.transpose_a},
              .b = {b + column * (op.transpose_b ? b_stride : 1), b_stride, op.transpose_b},
              .c = c + at,
              .c_stride = n,
              .accumulate = op.accumulate});
  }
}

}  // namespace unipool
