#include "runtime/ops/rope.h"

#include <glog/logging.h>

#include <cmath>

namespace unipool {

void RopeTable::Check() const {
  CHECK_EQ(table.rank, 2);
  CHECK_EQ(table.dim(1) % 2, 0) << table.ShapeString();
  CHECK_GT(base, 0);
}

void ComputeOnCpu(const RopeTable& op) {
  const int64_t positions = op.table.dim(0), head_dim = op.table.dim(1), half = head_dim / 2;
  float* table = op.table.as<float>();
#pragma omp parallel for schedule(static)
  for (int64_t p = 0; p < positions; ++p) {
    for (int64_t j = 0; j < half; ++j) {
      const double exponent = -2.0 * static_cast<double>(j) / static_cast<double>(head_dim);
      const double angle = static_cast<double>(p) * std::pow(op.base, exponent);
      table[p * head_dim + j] = static_cast<float>(std::cos(angle));
      table[p * head_dim + half + j] = static_cast<float>(std::sin(angle));
    }
  }
}

void Rope::Check() const {
  CHECK_EQ(x.rank, 2);
  CHECK_EQ(table.rank, 2);
  CHECK_EQ(table.dim(1) % 2, 0) << table.ShapeString();
  CHECK_GE(heads, 0);
  CHECK_GE(sequence, 1);
  CHECK_GE(table.dim(0), sequence) << table.ShapeString();
  CHECK_GE(x.dim(1), heads * table.dim(1)) << heads << " heads in " << x.ShapeString();
}

namespace {

// Rotates one head. The simd pragma states that the halves do not overlap, which the compiler
// cannot prove.
void RotateHead(const float* cosines, const float* sines, float direction, int64_t half, float* x) {
#pragma omp simd
  for (int64_t j = 0; j < half; ++j) {
    const float sine = direction * sines[j];
    const float first = x[j], second = x[j + half];
    x[j] = first * cosines[j] - second * sine;
    x[j + half] = second * cosines[j] + first * sine;
  }
}

}  // namespace

void ComputeOnCpu(const Rope& op) {
  const int64_t tokens = op.x.dim(0), columns = op.x.dim(1);
  const int64_t head_dim = op.table.dim(1), half = head_dim / 2;
  const float direction = op.inverse ? -1.0f : 1.0f;
  const float* table = op.table.as<float>();
  float* x = op.x.as<float>();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* cosines = table + t % op.sequence * head_dim;
    for (int64_t h = 0; h < op.heads; ++h) {
      RotateHead(cosines, cosines + half, direction, half, x + t * columns + h * head_dim);
    }
  }
}

}  // namespace unipool
