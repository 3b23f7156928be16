#include "runtime/ops/rms_norm.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace unipool {

void RmsNormForward::Check() const {
  CHECK_EQ(x.rank, 2);
  CHECK(y.SameShape(x)) << y.ShapeString() << " for " << x.ShapeString();
  CHECK_EQ(weight.numel(), x.dim(1));
  CHECK_EQ(rstd.numel(), x.dim(0));
}

void ComputeOnCpu(const RmsNormForward& op) {
  const int64_t tokens = op.x.dim(0), hidden = op.x.dim(1);
  const float* weight = op.weight.as<float>();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* x = op.x.as<float>() + t * hidden;
    float* y = op.y.as<float>() + t * hidden;
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t h = 0; h < hidden; ++h) sum += x[h] * x[h];
    // If the sum of squares overflows, the result is NaN; 1 / sqrt(inf) = 0 would hide the
    // overflow.
    const float rstd = std::isfinite(sum)
                           ? 1.0f / std::sqrt(sum / static_cast<float>(hidden) + op.eps)
                           : std::numeric_limits<float>::quiet_NaN();
    op.rstd.as<float>()[t] = rstd;
    for (int64_t h = 0; h < hidden; ++h) y[h] = x[h] * rstd * weight[h];
  }
}

void RmsNormBackward::Check() const {
  CHECK_EQ(x.rank, 2);
  CHECK(dy.SameShape(x) && dx.SameShape(x)) << dy.ShapeString() << " for " << x.ShapeString();
  CHECK_EQ(weight.numel(), x.dim(1));
  CHECK_EQ(dweight.numel(), x.dim(1));
  CHECK_EQ(rstd.numel(), x.dim(0));
}

namespace {

void InputGradient(const RmsNormBackward& op, int64_t t) {
  const int64_t hidden = op.x.dim(1);
  const float* x = op.x.as<float>() + t * hidden;
  const float* dy = op.dy.as<float>() + t * hidden;
  const float* weight = op.weight.as<float>();
  float* dx = op.dx.as<float>() + t * hidden;
  const float rstd = op.rstd.as<float>()[t];
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t h = 0; h < hidden; ++h) dot += dy[h] * weight[h] * x[h];
  const float scale = dot * rstd * rstd / static_cast<float>(hidden);
  if (op.add_to_dx) {
    for (int64_t h = 0; h < hidden; ++h) dx[h] += rstd * (dy[h] * weight[h] - x[h] * scale);
  } else {
    for (int64_t h = 0; h < hidden; ++h) dx[h] = rstd * (dy[h] * weight[h] - x[h] * scale);
  }
}

// Threads split the columns, so each sum runs over the tokens in order for any number of threads.
void WeightGradient(const RmsNormBackward& op) {
  const int64_t tokens = op.x.dim(0), hidden = op.x.dim(1);
  const float* rstd = op.rstd.as<float>();
  constexpr int64_t kColumns = 64;
#pragma omp parallel for schedule(static)
  for (int64_t begin = 0; begin < hidden; begin += kColumns) {
    const int64_t columns = std::min(kColumns, hidden - begin);
    float sums[kColumns] = {};
    for (int64_t t = 0; t < tokens; ++t) {
      const float* x = op.x.as<float>() + t * hidden + begin;
      const float* dy = op.dy.as<float>() + t * hidden + begin;
      for (int64_t c = 0; c < columns; ++c) sums[c] += dy[c] * x[c] * rstd[t];
    }
    float* dweight = op.dweight.as<float>() + begin;
    for (int64_t c = 0; c < columns; ++c) dweight[c] += sums[c];
  }
}

}  // namespace

void ComputeOnCpu(const RmsNormBackward& op) {
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < op.x.dim(0); ++t) InputGradient(op, t);
  WeightGradient(op);
}

}  // namespace unipool
