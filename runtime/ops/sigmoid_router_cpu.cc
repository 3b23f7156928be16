#include <glog/logging.h>

#include <numeric>

#include "runtime/ops/sigmoid_router.h"
#include "runtime/ops/vector_math.h"

namespace unipool {
namespace {

constexpr float kTiny = 1e-20f;

}  // namespace

void SigmoidScoresForward::Check() const {
  CHECK_EQ(logits.rank, 2);
  CHECK(scores.SameShape(logits)) << scores.ShapeString() << " for " << logits.ShapeString();
}

void ComputeOnCpu(const SigmoidScoresForward& op) {
  const int64_t elements = op.logits.numel();
  const float* z = op.logits.as<float>();
  float* s = op.scores.as<float>();
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < elements; ++i) s[i] = 1.0f / (1.0f + FastExp(-z[i]));
}

void SigmoidScoresBackward::Check() const {
  CHECK_EQ(scores.rank, 2);
  CHECK(dscores.SameShape(scores) && dlogits.SameShape(scores))
      << dscores.ShapeString() << " and " << dlogits.ShapeString() << " for "
      << scores.ShapeString();
}

void ComputeOnCpu(const SigmoidScoresBackward& op) {
  const int64_t elements = op.scores.numel();
  const float* s = op.scores.as<float>();
  const float* ds = op.dscores.as<float>();
  float* dz = op.dlogits.as<float>();
#pragma omp parallel for simd schedule(static)
  for (int64_t i = 0; i < elements; ++i) dz[i] = ds[i] * s[i] * (1.0f - s[i]);
}

void NormalizeGates::Check() const {
  CHECK_EQ(gates.rank, 2);
  CHECK_EQ(sums.numel(), gates.dim(0));
}

void ComputeOnCpu(const NormalizeGates& op) {
  const int64_t tokens = op.gates.dim(0), top_k = op.gates.dim(1);
  for (int64_t t = 0; t < tokens; ++t) {
    float* gates = op.gates.as<float>() + t * top_k;
    const float sum = std::accumulate(gates, gates + top_k, 0.0f) + kTiny;
    for (int64_t j = 0; j < top_k; ++j) gates[j] /= sum;
    op.sums.as<float>()[t] = sum;
  }
}

void NormalizeGatesBackward::Check() const {
  CHECK_EQ(gates.rank, 2);
  CHECK_EQ(sums.numel(), gates.dim(0));
  CHECK(dgates.SameShape(gates)) << dgates.ShapeString() << " for " << gates.ShapeString();
}

void ComputeOnCpu(const NormalizeGatesBackward& op) {
  const int64_t tokens = op.gates.dim(0), top_k = op.gates.dim(1);
  for (int64_t t = 0; t < tokens; ++t) {
    const float* gates = op.gates.as<float>() + t * top_k;
    float* dgates = op.dgates.as<float>() + t * top_k;
    const float sum = op.sums.as<float>()[t];
    const float dot = std::inner_product(gates, gates + top_k, dgates, 0.0f);
    for (int64_t j = 0; j < top_k; ++j) dgates[j] = (dgates[j] - dot) / sum;
  }
}

void MoveRouterBias::Check() const {
  CHECK_EQ(counts.rank, 1);
  CHECK(bias.SameShape(counts)) << bias.ShapeString() << " for " << counts.ShapeString();
}

void ComputeOnCpu(const MoveRouterBias& op) {
  const int64_t experts = op.counts.dim(0);
  const int64_t* counts = op.counts.as<int64_t>();
  float* bias = op.bias.as<float>();
  const int64_t total = std::accumulate(counts, counts + experts, int64_t{0});
  for (int64_t e = 0; e < experts; ++e) {
    const int64_t below_mean = total - counts[e] * experts;
    if (below_mean > 0) bias[e] += op.rate;
    if (below_mean < 0) bias[e] -= op.rate;
  }
}

}  // namespace unipool
