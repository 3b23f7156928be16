#include <glog/logging.h>

#include "runtime/ops/load_balance.h"

namespace unipool {

void AccumulateCounts::Check() const {
  CHECK_EQ(step.numel(), counts.numel());
  CHECK_EQ(previous.numel(), counts.numel());
}

void ComputeOnCpu(const AccumulateCounts& op) {
  int64_t* counts = op.counts.as<int64_t>();
  int64_t* step = op.step.as<int64_t>();
  int64_t* previous = op.previous.as<int64_t>();
  for (int64_t i = 0; i < op.counts.numel(); ++i) {
    step[i] += counts[i];
    previous[i] = counts[i];
    counts[i] = 0;
  }
}

void LoadShares::Check() const {
  CHECK_EQ(counts.rank, 2) << counts.ShapeString();
  CHECK_EQ(shares.numel(), counts.dim(1));
}

void ComputeOnCpu(const LoadShares& op) {
  const int64_t layers = op.counts.dim(0), experts = op.counts.dim(1);
  const int64_t* counts = op.counts.as<int64_t>();
  double* shares = op.shares.as<double>();
  int64_t total = 0;
  for (int64_t e = 0; e < experts; ++e) {
    int64_t count = 0;
    for (int64_t l = 0; l < layers; ++l) count += counts[l * experts + e];
    shares[e] = static_cast<double>(count);
    total += count;
  }
  const double even = 1.0 / static_cast<double>(experts);
  for (int64_t e = 0; e < experts; ++e) {
    shares[e] = total > 0 ? shares[e] / static_cast<double>(total) : even;
    shares[e] *= op.factor;
  }
}

void BalanceLoss::Check() const {
  const int64_t experts = column_sums.numel();
  CHECK_EQ(weights.rank, 2) << weights.ShapeString();
  CHECK(weights.dim(0) == 2 && weights.dim(1) == experts) << weights.ShapeString();
  CHECK_EQ(losses.numel(), 2);
  CHECK_EQ(score_gradient.numel(), experts);
}

void ComputeOnCpu(const BalanceLoss& op) {
  const int64_t experts = op.column_sums.numel();
  const double* sums = op.column_sums.as<double>();
  const double* first = op.weights.as<double>();
  const double* second = first + experts;
  double* losses = op.losses.as<double>();
  float* score_gradient = op.score_gradient.as<float>();
  for (int64_t e = 0; e < experts; ++e) {
    losses[0] += sums[e] * first[e];
    losses[1] += sums[e] * second[e];
    score_gradient[e] = static_cast<float>(first[e] + second[e]);
  }
}

}  // namespace unipool
