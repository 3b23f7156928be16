#include "runtime/ops/cross_entropy.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/ops/compute.h"
#include "tests/support/grad_check.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ExpectGradient;
using testing::ExpectNear;
using testing::ToVector;
using testing::Workbench;

TEST(CrossEntropy, MatchesTheFormulaByHand) {
  Workbench bench;
  const Tensor logits = bench.Floats({2, 3}, {0, 0, 0, 1, 2, 3});
  const Tensor targets = bench.Ints({2}, {1, 0}), losses = bench.Poisoned({2});
  Compute(bench.ctx(), CrossEntropyForward{.logits = logits, .targets = targets, .losses = losses});
  EXPECT_NEAR(losses.as<float>()[0], std::log(3.0), 1e-6);
  EXPECT_NEAR(losses.as<float>()[1], std::log(std::exp(1.0) + std::exp(2.0) + std::exp(3.0)) - 1,
              1e-6);
}

TEST(CrossEntropy, GradientMatchesFiniteDifferencesAndGivesTheSameLosses) {
  Workbench bench;
  const Tensor logits = bench.Random("logits", {3, 37}), targets = bench.Ints({3}, {0, 36, 17});
  const Tensor losses = bench.Poisoned({3});
  const auto loss = [&] {
    Compute(bench.ctx(),
            CrossEntropyForward{.logits = logits, .targets = targets, .losses = losses});
    return 0.25 * (double{losses.as<float>()[0]} + losses.as<float>()[1] + losses.as<float>()[2]);
  };
  loss();
  const Tensor dlogits = bench.Copy(logits), again = bench.Poisoned({3});
  Compute(bench.ctx(), CrossEntropyGradient{
                           .logits = dlogits, .targets = targets, .scale = 0.25f, .losses = again});
  EXPECT_EQ(ToVector(again), ToVector(losses));
  ExpectGradient(logits, dlogits, loss, {.tolerance = 1e-3});
}

TEST(CrossEntropy, LargeLogitsNeitherOverflowNorLoseTheLoss) {
  Workbench bench;
  const Tensor logits = bench.Floats({2, 2}, {1e30f, -1e30f, 1000, 999});
  const Tensor targets = bench.Ints({2}, {0, 1}), losses = bench.Poisoned({2});
  Compute(bench.ctx(),
          CrossEntropyGradient{.logits = logits, .targets = targets, .scale = 1, .losses = losses});
  EXPECT_NEAR(losses.as<float>()[0], 0, 1e-6);
  EXPECT_NEAR(losses.as<float>()[1], std::log(1 + std::exp(1.0)), 1e-4);
  const double p = 1 / (1 + std::exp(1.0));
  ExpectNear(logits.Rows(1, 2),
             bench.Floats({1, 2}, {static_cast<float>(1 - p), static_cast<float>(p - 1)}), 1e-6);
}

TEST(CrossEntropy, GradientOfEachRowSumsToZero) {
  Workbench bench;
  const Tensor logits = bench.Random("logits", {2, 8191}, 5), losses = bench.Poisoned({2});
  Compute(
      bench.ctx(),
      CrossEntropyGradient{
          .logits = logits, .targets = bench.Ints({2}, {5, 8190}), .scale = 1, .losses = losses});
  for (int64_t t = 0; t < 2; ++t) {
    double sum = 0;
    for (int64_t v = 0; v < 8191; ++v) sum += double{logits.as<float>()[t * 8191 + v]};
    EXPECT_NEAR(sum, 0, 1e-5);
  }
}

TEST(CrossEntropy, NanStaysInItsRow) {
  Workbench bench;
  const Tensor logits = bench.Zeros({2, 20}), losses = bench.Poisoned({2});
  logits.as<float>()[13] = NAN;
  Compute(bench.ctx(),
          CrossEntropyGradient{
              .logits = logits, .targets = bench.Ints({2}, {0, 0}), .scale = 1, .losses = losses});
  EXPECT_TRUE(std::isnan(losses.as<float>()[0]));
  EXPECT_NEAR(losses.as<float>()[1], std::log(20.0), 1e-5);
}

TEST(CrossEntropy, OneWordInTheVocabularyCostsNothing) {
  Workbench bench;
  const Tensor logits = bench.Floats({1, 1}, {-7}), losses = bench.Poisoned({1});
  Compute(bench.ctx(),
          CrossEntropyGradient{
              .logits = logits, .targets = bench.Ints({1}, {0}), .scale = 3, .losses = losses});
  EXPECT_EQ(losses.as<float>()[0], 0);
  EXPECT_EQ(logits.as<float>()[0], 0);
}

TEST(SumLosses, AddsTheWeightedSum) {
  Workbench bench;
  const Tensor sum = bench.arena().New<double>({1});
  *sum.as<double>() = 10;
  for (int i = 0; i < 2; ++i) {
    Compute(bench.ctx(),
            SumLosses{.losses = bench.Floats({3}, {1, 2, 4}), .weight = 0.25, .sum = sum});
  }
  EXPECT_EQ(*sum.as<double>(), 13.5);
}

TEST(CrossEntropyDeathTest, NamesATargetOutOfRangeAndItsPosition) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Workbench bench;
  const Tensor logits = bench.Zeros({2, 5}), losses = bench.Zeros({2});
  EXPECT_DEATH(Compute(bench.ctx(),
                       CrossEntropyForward{
                           .logits = logits, .targets = bench.Ints({2}, {4, 5}), .losses = losses}),
               "cross_entropy_forward: id 5 at position 1 of .* is outside .0, 5.");
  EXPECT_DEATH(Compute(bench.ctx(), CrossEntropyGradient{.logits = logits,
                                                         .targets = bench.Ints({2}, {-2, 0}),
                                                         .scale = 1,
                                                         .losses = losses}),
               "cross_entropy_gradient: id -2 at position 0");
}

}  // namespace
}  // namespace unipool
