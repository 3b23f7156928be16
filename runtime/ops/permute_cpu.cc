#include "runtime/ops/permute.h"

#include <glog/logging.h>

#include <cstring>

#include "runtime/ops/check_ids.h"
#include "runtime/ops/row_index.h"

namespace unipool {

void GatherRows::Check() const {
  CHECK_EQ(x.rank, 2);
  CHECK_EQ(y.rank, 2);
  CHECK_EQ(y.dim(0), index.numel());
  CHECK_EQ(y.dim(1), x.dim(1));
  CHECK(y.dtype == x.dtype) << y.ShapeString() << " for " << x.ShapeString();
}

void ComputeOnCpu(const GatherRows& op) {
  CheckIds(op.kName, op.index, op.x.dim(0), kNoRow);
  const int64_t rows = op.y.dim(0);
  const int64_t row_bytes = op.y.dim(1) * static_cast<int64_t>(SizeOf(op.y.dtype));
  const int32_t* index = op.index.as<int32_t>();
  const char* x = static_cast<const char*>(op.x.data);
  char* y = static_cast<char*>(op.y.data);
#pragma omp parallel for schedule(static)
  for (int64_t i = 0; i < rows; ++i) {
    if (index[i] == kNoRow) continue;
    std::memcpy(y + i * row_bytes, x + index[i] * row_bytes, static_cast<size_t>(row_bytes));
  }
}

void CombineRows::Check() const {
  CHECK_EQ(rows.rank, 2);
  CHECK_EQ(positions.rank, 2);
  CHECK_EQ(y.rank, 2);
  CHECK_EQ(y.dim(0), positions.dim(0));
  CHECK_EQ(y.dim(1), rows.dim(1));
  CHECK_LE(rows.dim(0), positions.numel());
  CHECK(gates.absent() || gates.SameShape(positions))
      << gates.ShapeString() << " for " << positions.ShapeString();
  CHECK(base.absent() || base.SameShape(y)) << base.ShapeString() << " for " << y.ShapeString();
}

namespace {

void CombineToken(const CombineRows& op, const float* gates, int64_t t) {
  const int64_t hidden = op.rows.dim(1), k = op.positions.dim(1);
  const int32_t* positions = op.positions.as<int32_t>() + t * k;
  float* y = op.y.as<float>() + t * hidden;
  const float* base = op.base.absent() ? nullptr : op.base.as<float>() + t * hidden;
  const size_t bytes = static_cast<size_t>(hidden) * sizeof(float);
  if (base == nullptr) std::memset(y, 0, bytes);
  if (base != nullptr && base != y) std::memcpy(y, base, bytes);
  for (int64_t j = 0; j < k; ++j) {
    if (positions[j] == kNoRow) continue;
    const float* row = op.rows.as<float>() + positions[j] * hidden;
    const float gate = gates == nullptr ? 1.0f : gates[t * k + j];
#pragma omp simd
    for (int64_t h = 0; h < hidden; ++h) y[h] += gate * row[h];
  }
}

}  // namespace

void ComputeOnCpu(const CombineRows& op) {
  CheckIds(op.kName, op.positions, op.rows.dim(0), kNoRow);
  const float* gates = op.gates.absent() ? nullptr : op.gates.as<float>();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < op.y.dim(0); ++t) CombineToken(op, gates, t);
}

void CombineRowsBackward::Check() const {
  CHECK_EQ(dy.rank, 2);
  CHECK_EQ(rows.rank, 2);
  CHECK_EQ(positions.rank, 2);
  CHECK_EQ(positions.dim(0), dy.dim(0));
  CHECK_LE(rows.dim(0), positions.numel());
  CHECK_EQ(rows.dim(1), dy.dim(1));
  CHECK(drows.SameShape(rows)) << drows.ShapeString() << " for " << rows.ShapeString();
  CHECK(gates.SameShape(positions) && dgates.SameShape(positions))
      << gates.ShapeString() << " and " << dgates.ShapeString() << " for "
      << positions.ShapeString();
}

namespace {

// Computes one row's dgates and drow in one pass. Each element is read before drow, which may be
// the same memory, is written.
float ScaleAndDot(const float* dy, const float* row, float gate, int64_t hidden, float* drow) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t h = 0; h < hidden; ++h) {
    dot += dy[h] * row[h];
    drow[h] = gate * dy[h];
  }
  return dot;
}

}  // namespace

void ComputeOnCpu(const CombineRowsBackward& op) {
  CheckIds(op.kName, op.positions, op.rows.dim(0), kNoRow);
  const int64_t hidden = op.dy.dim(1), k = op.positions.dim(1);
  const int32_t* positions = op.positions.as<int32_t>();
  const float *gates = op.gates.as<float>(), *rows = op.rows.as<float>();
  float *dgates = op.dgates.as<float>(), *drows = op.drows.as<float>();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < op.dy.dim(0); ++t) {
    const float* dy = op.dy.as<float>() + t * hidden;
    for (int64_t i = t * k; i < (t + 1) * k; ++i) {
      dgates[i] = 0;
      if (positions[i] == kNoRow) continue;
      const int64_t at = positions[i] * hidden;
      dgates[i] = ScaleAndDot(dy, rows + at, gates[i], hidden, drows + at);
    }
  }
}

}  // namespace unipool
