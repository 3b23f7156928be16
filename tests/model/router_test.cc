#include "model/router.h"

#include <glog/logging.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ExpectNear;
using testing::ToVector;
using testing::Workbench;
using Kind = RouterSettings::Kind;

// Four experts whose logits are the four features of a token.
class Routed {
 public:
  Routed(Kind kind, int64_t top_k)
      : router_(parameters_, "r", 4,
                {.kind = kind, .experts = 4, .top_k = top_k, .c = 2, .eps = 0, .bias_rate = 0.5f},
                1.0f),
        counts_(bench_.Longs({4}, {0, 0, 0, 0})) {
    CHECK(parameters_.Allocate(Device{}, 1).ok());
    parameters_.Initialize(1);
    float* weight = Find("r.weight").value.as<float>();
    for (int i = 0; i < 16; ++i) weight[i] = i % 5 == 0 ? 1.0f : 0.0f;
  }

  const Parameter& Find(const std::string& name) const {
    for (const Parameter& parameter : parameters_.parameters()) {
      if (parameter.name == name) return parameter;
    }
    LOG(FATAL) << name;
  }
  void Forward(const std::vector<float>& logits) {
    x_ = bench_.Floats({1, 4}, logits);
    router_.Allocate(bench_.ctx(), 1, &saved_);
    router_.Forward(bench_.ctx(), x_, counts_, &saved_);
  }
  Tensor Backward(const std::vector<float>& dgates) {
    const Tensor dx = bench_.Poisoned({1, 4});
    router_.Backward(bench_.ctx(),
                     {.dgates = bench_.Floats({1, saved_.ids.dim(1)}, dgates),
                      .score_gradient = bench_.Zeros({4}),
                      .x = x_,
                      .dx = dx},
                     saved_);
    return dx;
  }
  void MoveBias(const std::vector<int64_t>& counts) {
    router_.MoveBias(bench_.ctx(), bench_.Longs({4}, counts));
  }
  std::vector<int32_t> Ids() const {
    return {saved_.ids.as<int32_t>(), saved_.ids.as<int32_t>() + saved_.ids.numel()};
  }
  std::vector<int64_t> Counts() const { return {counts_.as<int64_t>(), counts_.as<int64_t>() + 4}; }
  const Tensor& gates() const { return saved_.gates; }
  Workbench& bench() { return bench_; }

 private:
  Workbench bench_;
  ParameterList parameters_;
  Router router_;
  Router::Saved saved_;
  Tensor counts_;
  Tensor x_;
};

// model/method.md#ties.
TEST(Router, ATokenWithoutPositiveLogitsGoesToTheLowestIdsWithoutGradient) {
  Routed routed(Kind::kNorm, 2);
  routed.Forward({-1, -2, -3, -4});
  EXPECT_EQ(routed.Ids(), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(routed.Counts(), (std::vector<int64_t>{1, 1, 0, 0}));
  EXPECT_EQ(ToVector(routed.gates()), (std::vector<float>{0, 0}));
  EXPECT_EQ(ToVector(routed.Backward({1, 1})), (std::vector<float>{0, 0, 0, 0}));
  EXPECT_EQ(ToVector(routed.Find("r.weight").grad), std::vector<float>(16, 0.0f));
}

TEST(Router, NormGatesAreTheUnnormalizedScores) {
  Routed routed(Kind::kNorm, 2);
  routed.Forward({3, 4, 0, -12});
  EXPECT_EQ(routed.Ids(), (std::vector<int32_t>{1, 0}));
  ExpectNear(routed.gates(), routed.bench().Floats({1, 2}, {2 * 4.0f / 13, 2 * 3.0f / 13}), 1e-6);
}

TEST(Router, NormGradientReachesUnchosenAndNegativeExperts) {
  Routed routed(Kind::kNorm, 1);
  routed.Forward({3, 4, 0, -12});
  // dz_j = c (g_j m_j / n - z_j / n^3 * sum g m z), with g = 1 at expert 1 and n = 13.
  const float through = 4.0f / (13 * 13 * 13);
  ExpectNear(routed.Backward({1}),
             routed.bench().Floats(
                 {1, 4}, {2 * -3 * through, 2 * (1.0f / 13 - 4 * through), 0, 2 * 12 * through}),
             1e-6);
}

TEST(Router, SigmoidGatesAreNormalizedForSeveralChoicesOnly) {
  Routed one(Kind::kSigmoidBias, 1), two(Kind::kSigmoidBias, 2);
  const std::vector<float> logits = {0, std::log(3.0f), -1, -2};
  one.Forward(logits);
  two.Forward(logits);
  ExpectNear(one.gates(), one.bench().Floats({1, 1}, {0.75f}), 1e-6);
  ExpectNear(two.gates(), two.bench().Floats({1, 2}, {0.6f, 0.4f}), 1e-6);
}

TEST(Router, TheBiasChangesTheChoiceButNotTheGate) {
  Routed routed(Kind::kSigmoidBias, 1);
  routed.MoveBias({0, 4, 1, 1});  // the mean is 1.5
  EXPECT_EQ(ToVector(routed.Find("r.bias").value), (std::vector<float>{0.5f, -0.5f, 0.5f, 0.5f}));
  routed.Forward({0, std::log(3.0f), -1, -2});
  EXPECT_EQ(routed.Ids(), std::vector<int32_t>{0});
  ExpectNear(routed.gates(), routed.bench().Floats({1, 1}, {0.5f}), 1e-6);
  EXPECT_TRUE(routed.Find("r.bias").grad.absent());
}

}  // namespace
}  // namespace unipool
