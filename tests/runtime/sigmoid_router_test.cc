#include "runtime/ops/sigmoid_router.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/ops/compute.h"
#include "tests/support/grad_check.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Dot;
using testing::ExpectGradient;
using testing::ExpectNear;
using testing::ToVector;
using testing::Workbench;

TEST(SigmoidScores, MatchTheFormulaByHandAndInPlace) {
  Workbench bench;
  const Tensor z = bench.Floats({2, 2}, {0, std::log(3.0f), -std::log(3.0f), 200});
  const Tensor s = bench.Poisoned({2, 2});
  Compute(bench.ctx(), SigmoidScoresForward{.logits = z, .scores = s});
  ExpectNear(s, bench.Floats({2, 2}, {0.5f, 0.75f, 0.25f, 1}), 1e-6);
  Compute(bench.ctx(), SigmoidScoresForward{.logits = z, .scores = z});
  EXPECT_EQ(ToVector(z), ToVector(s));
}

TEST(SigmoidScores, GradientMatchesFiniteDifferences) {
  Workbench bench;
  const Tensor z = bench.Random("z", {4, 13}), ds = bench.Random("ds", {4, 13});
  const Tensor s = bench.Poisoned({4, 13}), dz = bench.Poisoned({4, 13});
  const auto loss = [&] {
    Compute(bench.ctx(), SigmoidScoresForward{.logits = z, .scores = s});
    return Dot(s, ds);
  };
  loss();
  Compute(bench.ctx(), SigmoidScoresBackward{.dscores = ds, .scores = s, .dlogits = dz});
  const Tensor in_place = bench.Copy(ds);
  Compute(bench.ctx(),
          SigmoidScoresBackward{.dscores = in_place, .scores = s, .dlogits = in_place});
  EXPECT_EQ(ToVector(in_place), ToVector(dz));
  ExpectGradient(z, dz, loss, {.tolerance = 1e-3});
}

TEST(NormalizeGates, MakesEachTokensGatesSumToOne) {
  Workbench bench;
  const Tensor gates = bench.Floats({3, 2}, {0.5f, 0.25f, 0.125f, 0.125f, 0, 0});
  const Tensor sums = bench.Poisoned({3});
  Compute(bench.ctx(), NormalizeGates{.gates = gates, .sums = sums});
  ExpectNear(gates, bench.Floats({3, 2}, {2.0f / 3, 1.0f / 3, 0.5f, 0.5f, 0, 0}), 1e-7);
  ExpectNear(sums, bench.Floats({3}, {0.75f, 0.25f, 1e-20f}), 0, 1e-6);
}

TEST(NormalizeGates, GradientMatchesFiniteDifferences) {
  Workbench bench;
  const Tensor raw = bench.Random("raw", {5, 3}), weights = bench.Random("weights", {5, 3});
  for (int64_t i = 0; i < 15; ++i) raw.as<float>()[i] = 0.3f + std::abs(raw.as<float>()[i]);
  const Tensor sums = bench.Poisoned({5}), gates = bench.Poisoned({5, 3});
  const auto loss = [&] {
    std::copy_n(raw.as<float>(), 15, gates.as<float>());
    Compute(bench.ctx(), NormalizeGates{.gates = gates, .sums = sums});
    return Dot(gates, weights);
  };
  loss();
  const Tensor draw = bench.Copy(weights);
  Compute(bench.ctx(), NormalizeGatesBackward{.gates = gates, .sums = sums, .dgates = draw});
  ExpectGradient(raw, draw, loss, {.step = 1e-3, .tolerance = 2e-3});
}

// The mean of 10 over 4 experts is no integer; of 12 it is, and the expert that has it stays.
TEST(MoveRouterBias, GoesTowardsExpertsBelowTheMean) {
  Workbench bench;
  const Tensor bias = bench.Floats({4}, {0, 1, -1, 0.5f});
  Compute(bench.ctx(),
          MoveRouterBias{.counts = bench.Longs({4}, {2, 3, 5, 0}), .rate = 0.25f, .bias = bias});
  EXPECT_EQ(ToVector(bias), (std::vector<float>{0.25f, 0.75f, -1.25f, 0.75f}));
  Compute(bench.ctx(),
          MoveRouterBias{.counts = bench.Longs({4}, {3, 3, 6, 0}), .rate = 0.25f, .bias = bias});
  EXPECT_EQ(ToVector(bias), (std::vector<float>{0.25f, 0.75f, -1.5f, 1.0f}));
}

TEST(MoveRouterBias, WithoutTokensNothingMoves) {
  Workbench bench;
  const Tensor bias = bench.Floats({2}, {1, 2});
  Compute(bench.ctx(),
          MoveRouterBias{.counts = bench.Longs({2}, {0, 0}), .rate = 0.25f, .bias = bias});
  EXPECT_EQ(ToVector(bias), (std::vector<float>{1, 2}));
}

}  // namespace
}  // namespace unipool
