#include <glog/logging.h>

#include <algorithm>
#include <vector>

#include "runtime/blas.h"
#include "runtime/ops/grouped_gemm.h"

namespace unipool {
namespace {

// A block of one group's result that one thread computes. The bits of a piece depend on its shape
// and position, so the pieces depend only on the offsets, never on the number of threads.
struct Piece {
  int64_t group;
  int64_t row;  // first row in the output
  int64_t rows;
  int64_t column;  // first column in the output
  int64_t columns;
  int64_t work;  // number of multiplications
};

// Largest first, so that dynamic scheduling balances the threads; ties in memory order.
void SortByWork(std::vector<Piece>& pieces) {
  std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
    if (a.work != b.work) return a.work > b.work;
    if (a.group != b.group) return a.group < b.group;
    return a.row != b.row ? a.row < b.row : a.column < b.column;
  });
}

// Offsets in GPU memory are not checked here, because reading them would wait for the GPU.
void CheckOffsets(const Tensor& offsets, int64_t groups, int64_t rows) {
  CHECK_EQ(offsets.numel(), groups + 1);
  if (offsets.device.type != DeviceType::kCpu) {
    CHECK_LE(groups, kMaxCudaGroups);
    return;
  }
  const int64_t* offset = offsets.as<int64_t>();
  CHECK_EQ(offset[groups] - offset[0], rows);
  for (int64_t g = 0; g < groups; ++g) CHECK_LE(offset[g], offset[g + 1]) << "group " << g;
}

}  // namespace

void GroupedGemm::Check() const {
  CHECK(a.rank == 2 && weight.rank == 3 && c.rank == 2)
      << a.ShapeString() << " * " << weight.ShapeString() << " = " << c.ShapeString();
  CHECK_EQ(a.dim(0), c.dim(0));
  CHECK(weight.dim(transpose_weight ? 2 : 1) == a.dim(1) &&
        weight.dim(transpose_weight ? 1 : 2) == c.dim(1))
      << a.ShapeString() << " * " << weight.ShapeString() << " = " << c.ShapeString();
  CheckOffsets(offsets, weight.dim(0), a.dim(0));
}

namespace {

// Large groups are split by rows, wide results always by columns: threads can then share a weight
// matrix even if one group has all the rows.
const std::vector<Piece>& RowPieces(const GroupedGemm& op) {
  constexpr int64_t kRows = 512, kColumns = 1024;
  thread_local std::vector<Piece> pieces;
  pieces.clear();
  const int64_t groups = op.weight.dim(0), n = op.c.dim(1), k = op.a.dim(1);
  // Reserves for the maximum number of pieces, whatever the distribution of rows, with room for
  // more rows, because a rank's share of them changes from step to step: a step after the first
  // must not allocate.
  const size_t max_pieces =
      static_cast<size_t>((groups + op.a.dim(0) / kRows) * ((n + kColumns - 1) / kColumns));
  if (pieces.capacity() < max_pieces) pieces.reserve(2 * max_pieces);
  const int64_t* offsets = op.offsets.as<int64_t>();
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t end = offsets[g + 1] - offsets[0];
    for (int64_t row = offsets[g] - offsets[0]; row < end; row += kRows) {
      const int64_t rows = std::min(kRows, end - row);
      for (int64_t column = 0; column < n; column += kColumns) {
        const int64_t columns = std::min(kColumns, n - column);
        pieces.push_back({g, row, rows, column, columns, rows * columns * k});
      }
    }
  }
  SortByWork(pieces);
  return pieces;
}

}  // namespace

void ComputeOnCpu(const GroupedGemm& op) {
  const std::vector<Piece>& pieces = RowPieces(op);
  const int64_t n = op.c.dim(1), k = op.a.dim(1), weight_stride = op.weight.dim(2);
  const float* a = op.a.as<float>();
  const float* weight = op.weight.as<float>();
  float* c = op.c.as<float>();
#pragma omp parallel for schedule(dynamic)
  for (size_t i = 0; i < pieces.size(); ++i) {
    const Piece& piece = pieces[i];
    const float* part =
        weight + piece.group * n * k + piece.column * (op.transpose_weight ? weight_stride : 1);
    RunSgemm({.m = piece.rows,
              .n = piece.columns,
              .k = k,
              .a = {a + piece.row * k, k},
              .b = {part, weight_stride, op.transpose_weight},
              .c = c + piece.row * n + piece.column,
              .c_stride = n});
  }
}

void GroupedWeightGradient::Check() const {
  CHECK_EQ(dweight.rank, 3);
  CHECK_GE(num_layers, 0);
  for (int64_t i = 0; i < num_layers; ++i) {
    const GroupedRows& layer = layers[i];
    CHECK(layer.dy.rank == 2 && layer.x.rank == 2);
    CHECK_EQ(layer.dy.dim(0), layer.x.dim(0)) << "layer " << i;
    CHECK(layer.dy.dim(1) == dweight.dim(1) && layer.x.dim(1) == dweight.dim(2))
        << layer.dy.ShapeString() << "^T * " << layer.x.ShapeString() << " for "
        << dweight.ShapeString();
    CheckOffsets(layer.offsets, dweight.dim(0), layer.dy.dim(0));
    if (layer.offsets.device.type == DeviceType::kCpu) CHECK_EQ(layer.offsets.as<int64_t>()[0], 0);
  }
}

namespace {

// A piece fits in a core's cache and stays there while the layers are added to it.
const std::vector<Piece>& GradientPieces(const GroupedWeightGradient& op) {
  constexpr int64_t kRows = 512, kColumns = 512;
  thread_local std::vector<Piece> pieces;
  pieces.clear();
  const int64_t groups = op.dweight.dim(0), out = op.dweight.dim(1), in = op.dweight.dim(2);
  const int64_t max_pieces =
      groups * ((out + kRows - 1) / kRows) * ((in + kColumns - 1) / kColumns);
  pieces.reserve(static_cast<size_t>(max_pieces));  // for any distribution of rows
  for (int64_t g = 0; g < groups; ++g) {
    int64_t terms = 0;
    for (int64_t i = 0; i < op.num_layers; ++i) {
      const int64_t* offsets = op.layers[i].offsets.as<int64_t>();
      terms += offsets[g + 1] - offsets[g];
    }
    if (terms == 0) continue;
    for (int64_t row = 0; row < out; row += kRows) {
      const int64_t rows = std::min(kRows, out - row);
      for (int64_t column = 0; column < in; column += kColumns) {
        const int64_t columns = std::min(kColumns, in - column);
        pieces.push_back({g, row, rows, column, columns, rows * columns * terms});
      }
    }
  }
  SortByWork(pieces);
  return pieces;
}

void AddLayers(const GroupedWeightGradient& op, const Piece& piece) {
  const int64_t out = op.dweight.dim(1), in = op.dweight.dim(2);
  float* dweight = op.dweight.as<float>() + piece.group * out * in;
  for (int64_t i = 0; i < op.num_layers; ++i) {
    const GroupedRows& layer = op.layers[i];
    const int64_t* offsets = layer.offsets.as<int64_t>();
    const int64_t begin = offsets[piece.group];
    RunSgemm({.m = piece.rows,
              .n = piece.columns,
              .k = offsets[piece.group + 1] - begin,
              .a = {layer.dy.as<float>() + begin * out + piece.row, out, true},
              .b = {layer.x.as<float>() + begin * in + piece.column, in},
              .c = dweight + piece.row * in + piece.column,
              .c_stride = in,
              .accumulate = true});
  }
}

}  // namespace

void ComputeOnCpu(const GroupedWeightGradient& op) {
  const std::vector<Piece>& pieces = GradientPieces(op);
#pragma omp parallel for schedule(dynamic)
  for (size_t i = 0; i < pieces.size(); ++i) AddLayers(op, pieces[i]);
}

}  // namespace unipool
