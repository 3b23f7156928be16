#include "runtime/ops/cross_entropy.h"

#include <glog/logging.h>

#include <cmath>
#include <numeric>

#include "runtime/ops/check_ids.h"
#include "runtime/ops/vector_math.h"

namespace unipool {
namespace {

void CheckShapes(const Tensor& logits, const Tensor& targets, const Tensor& losses) {
  CHECK_EQ(logits.rank, 2);
  CHECK_GE(logits.dim(1), 1);
  CHECK_EQ(targets.numel(), logits.dim(0));
  CHECK_EQ(losses.numel(), logits.dim(0));
}

float SumOfExp(const float* row, int64_t count, float shift) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t v = 0; v < count; ++v) sum += FastExp(row[v] - shift);
  return sum;
}

}  // namespace

void CrossEntropyForward::Check() const { CheckShapes(logits, targets, losses); }

void ComputeOnCpu(const CrossEntropyForward& op) {
  const int64_t tokens = op.logits.dim(0), vocab = op.logits.dim(1);
  CheckIds(op.kName, op.targets, vocab);
  const int32_t* targets = op.targets.as<int32_t>();
  float* losses = op.losses.as<float>();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = op.logits.as<float>() + t * vocab;
    const float max = RowMax(row, vocab);
    losses[t] = std::log(SumOfExp(row, vocab, max)) + (max - row[targets[t]]);
  }
}

void CrossEntropyGradient::Check() const { CheckShapes(logits, targets, losses); }

void ComputeOnCpu(const CrossEntropyGradient& op) {
  const int64_t tokens = op.logits.dim(0), vocab = op.logits.dim(1);
  CheckIds(op.kName, op.targets, vocab);
  const int32_t* targets = op.targets.as<int32_t>();
  float* losses = op.losses.as<float>();
#pragma omp parallel for schedule(static)
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = op.logits.as<float>() + t * vocab;
    const float max = RowMax(row, vocab), target_logit = row[targets[t]];
    const float sum = ExpRow(row, vocab, max, row);
    losses[t] = std::log(sum) + (max - target_logit);
    const float scale = op.scale / sum;
#pragma omp simd
    for (int64_t v = 0; v < vocab; ++v) row[v] *= scale;
    row[targets[t]] -= op.scale;
  }
}

void SumLosses::Check() const {
  CHECK_EQ(losses.rank, 1) << losses.ShapeString();
  CHECK_EQ(sum.numel(), 1) << sum.ShapeString();
}

void ComputeOnCpu(const SumLosses& op) {
  const float* losses = op.losses.as<float>();
  // volatile: the product is rounded before it is added. With a fused multiply-add the bits would
  // depend on the compiler.
  const volatile double weighted =
      op.weight * std::accumulate(losses, losses + op.losses.numel(), 0.0);
  *op.sum.as<double>() += weighted;
}

}  // namespace unipool
