#include "runtime/ops/router_scores.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "runtime/ops/vector_math.h"

namespace unipool {

void SoftmaxScoresForward::Check() const {
  CHECK_EQ(logits.rank, 2);
  CHECK_GE(logits.dim(1), 1);
  CHECK(scores.SameShape(logits)) << scores.ShapeString() << " for " << logits.ShapeString();
}

void ComputeOnCpu(const SoftmaxScoresForward& op) {
  const int64_t tokens = op.logits.dim(0), experts = op.logits.dim(1);
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* z = op.logits.as<float>() + t * experts;
    float* s = op.scores.as<float>() + t * experts;
    const float scale = 1.0f / ExpRow(z, experts, RowMax(z, experts), s);
#pragma omp simd
    for (int64_t e = 0; e < experts; ++e) s[e] *= scale;
  }
}

void SoftmaxScoresBackward::Check() const {
  CHECK_EQ(scores.rank, 2);
  CHECK(dscores.SameShape(scores) && dlogits.SameShape(scores))
      << dscores.ShapeString() << " and " << dlogits.ShapeString() << " for "
      << scores.ShapeString();
}

void ComputeOnCpu(const SoftmaxScoresBackward& op) {
  const int64_t tokens = op.scores.dim(0), experts = op.scores.dim(1);
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* s = op.scores.as<float>() + t * experts;
    const float* ds = op.dscores.as<float>() + t * experts;
    float* dz = op.dlogits.as<float>() + t * experts;
    float dot = 0;
#pragma omp simd reduction(+ : dot)
    for (int64_t e = 0; e < experts; ++e) dot += s[e] * ds[e];
#pragma omp simd
    for (int64_t e = 0; e < experts; ++e) dz[e] = s[e] * (ds[e] - dot);
  }
}

void NormScoresForward::Check() const {
  CHECK_EQ(logits.rank, 2);
  CHECK_EQ(scale.numel(), 1);
  CHECK(scores.SameShape(logits)) << scores.ShapeString() << " for " << logits.ShapeString();
  CHECK(scores.data != logits.data || logits.empty()) << "in place";
}

namespace {

// In double, so that no finite logits overflow and none but zeros give zero.
double Norm(const float* z, int64_t experts) {
  double sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t e = 0; e < experts; ++e) sum += double{z[e]} * double{z[e]};
  return std::sqrt(sum);
}

}  // namespace

void ComputeOnCpu(const NormScoresForward& op) {
  const int64_t tokens = op.logits.dim(0), experts = op.logits.dim(1);
  const double scale = double{op.scale.as<float>()[0]} * double{op.c};
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* z = op.logits.as<float>() + t * experts;
    float* s = op.scores.as<float>() + t * experts;
    const double norm = Norm(z, experts);
    const float factor = norm == 0 ? 0.0f : static_cast<float>(scale / (norm + double{op.eps}));
#pragma omp simd
    for (int64_t e = 0; e < experts; ++e) s[e] = factor * (z[e] > 0 ? z[e] : 0.0f);
  }
}

void NormScoresBackward::Check() const {
  CHECK_EQ(logits.rank, 2);
  CHECK_EQ(scale.numel(), 1);
  CHECK_EQ(dscale.numel(), 1);
  CHECK(dscores.SameShape(logits) && dlogits.SameShape(logits))
      << dscores.ShapeString() << " and " << dlogits.ShapeString() << " for "
      << logits.ShapeString();
}

namespace {

// Writes the token's dz and gives its sum_i ds_i max(0, z_i / (n+eps)).
double NormScoresRow(const NormScoresBackward& op, double scale, int64_t t) {
  const int64_t experts = op.logits.dim(1);
  const float* z = op.logits.as<float>() + t * experts;
  const float* ds = op.dscores.as<float>() + t * experts;
  float* dz = op.dlogits.as<float>() + t * experts;
  const double norm = Norm(z, experts);
  if (norm == 0) {
    std::fill_n(dz, experts, 0.0f);
    return 0;
  }
  double dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t e = 0; e < experts; ++e) dot += double{ds[e]} * double{z[e] > 0 ? z[e] : 0.0f};
  const double divisor = norm + double{op.eps}, dscale = dot / divisor;
  const float direct = static_cast<float>(scale / divisor);
  const float through_norm = static_cast<float>(scale * dscale / divisor / norm);
#pragma omp simd
  for (int64_t e = 0; e < experts; ++e) {
    dz[e] = direct * (z[e] > 0 ? ds[e] : 0.0f) - through_norm * z[e];
  }
  return dscale;
}

}  // namespace

void ComputeOnCpu(const NormScoresBackward& op) {
  // Each block of tokens is summed in order by one thread, then the blocks in order.
  constexpr int64_t kBlocks = 64;
  std::array<double, kBlocks> sums = {};
  const int64_t tokens = op.logits.dim(0);
  const double scale = double{op.scale.as<float>()[0]} * double{op.c};
#pragma omp parallel for schedule(static)
  for (int64_t block = 0; block < kBlocks; ++block) {
    const int64_t end = tokens * (block + 1) / kBlocks;
    double sum = 0;
    for (int64_t t = tokens * block / kBlocks; t < end; ++t) sum += NormScoresRow(op, scale, t);
    sums[static_cast<size_t>(block)] = sum;
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  op.dscale.as<float>()[0] += static_cast<float>(double{op.c} * total);
}

}  // namespace unipool
