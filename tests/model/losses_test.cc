#include "model/losses.h"

#include <glog/logging.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "comm/local_communicator.h"
#include "runtime/ops/compute.h"
#include "tests/support/grad_check.h"
#include "tests/support/status_matchers.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ExpectGradient;
using testing::Workbench;

struct Head {
  ParameterList parameters;
  Linear linear{parameters, {{"lm_head.weight", 11}}, {.in = 6, .init_std = 0.5f}};
  Head() {
    CHECK(parameters.Allocate(Device{}, 1).ok());
    parameters.Initialize(3);
  }
};

double CrossEntropy(Workbench& bench, const Head& head, Tensor x, Tensor targets, float scale,
                    Tensor dx) {
  LossSums sums = LossSums::Create(Device{}).value();
  CrossEntropyAndGradient(
      bench.ctx(), head.linear,
      {.x = x, .targets = targets, .scale = scale, .dx = dx, .sum = sums.cross_entropy()});
  return sums.Read(*bench.ctx().stream).cross_entropy;
}

TEST(CrossEntropyAndGradient, UniformLogitsLoseLogVocab) {
  Workbench bench;
  Head head;
  const Tensor x = bench.Zeros({4, 6}), dx = bench.Poisoned({4, 6});
  const Tensor targets = bench.Ints({4}, {0, 3, 10, 5});
  EXPECT_NEAR(CrossEntropy(bench, head, x, targets, 0.25f, dx), std::log(11.0), 1e-5);
}

// More tokens than one chunk holds.
TEST(CrossEntropyAndGradient, GradientsMatchFiniteDifferencesAcrossChunks) {
  Workbench bench;
  Head head;
  constexpr int64_t kTokens = 1100;
  const Tensor x = bench.Random("x", {kTokens, 6}), dx = bench.Poisoned({kTokens, 6});
  std::vector<int32_t> ids(kTokens);
  for (int64_t t = 0; t < kTokens; ++t) ids[t] = static_cast<int32_t>(t * 7 % 11);
  const Tensor targets = bench.Ints({kTokens}, ids), losses = bench.Poisoned({kTokens});
  const auto loss = [&] {
    CrossEntropyOfTokens(bench.ctx(), head.linear,
                         {.x = x, .targets = targets, .results = {.losses = losses}});
    double sum = 0;
    for (int64_t t = 0; t < kTokens; ++t) sum += losses.as<float>()[t];
    return sum;
  };
  EXPECT_NEAR(CrossEntropy(bench, head, x, targets, 1.0f, dx), loss(), 1e-3);
  ExpectGradient(x, dx, loss);
  ExpectGradient(head.linear.weight(), head.linear.dweight(), loss, {.tolerance = 2e-2});
}

TEST(CrossEntropyOfTokens, TheLikeliestTokenLosesLeastAcrossChunks) {
  Workbench bench;
  Head head;
  constexpr int64_t kTokens = 1100;
  const Tensor x = bench.Random("x", {kTokens, 6}), losses = bench.Poisoned({kTokens});
  const Tensor likeliest = bench.Ints({kTokens, 1}, std::vector<int32_t>(kTokens, -1));
  std::vector<float> least(kTokens, 1e9f);
  std::vector<int32_t> best(kTokens);
  for (int32_t id = 0; id < 11; ++id) {
    const Tensor targets = bench.Ints({kTokens}, std::vector<int32_t>(kTokens, id));
    CrossEntropyOfTokens(
        bench.ctx(), head.linear,
        {.x = x, .targets = targets, .results = {.losses = losses, .likeliest = likeliest}});
    for (int64_t t = 0; t < kTokens; ++t) {
      if (losses.as<float>()[t] < least[t]) best[t] = id;
      least[t] = std::min(least[t], losses.as<float>()[t]);
    }
  }
  const int32_t* ids = likeliest.as<int32_t>();
  EXPECT_EQ(std::vector<int32_t>(ids, ids + kTokens), best);
}

TEST(LossSums, AccumulateUntilCleared) {
  Workbench bench;
  LossSums sums = LossSums::Create(Device{}).value();
  *sums.cross_entropy().as<double>() += 1;
  sums.balance().as<double>()[0] += 2;
  sums.balance().as<double>()[1] += 3;
  const LossSums::Values values = sums.Read(*bench.ctx().stream);
  EXPECT_EQ(values.cross_entropy, 1);
  EXPECT_EQ(values.pool_balance, 2);
  EXPECT_EQ(values.layer_balance, 3);
  sums.Clear(bench.ctx());
  EXPECT_EQ(sums.Read(*bench.ctx().stream).layer_balance, 0);
}

// Two layers share a pool of 2 experts.
struct Balanced {
  std::unique_ptr<LoadStatistics> statistics =
      LoadStatistics::Create({0, 0}, {2}, Device{}).value();
  Workbench bench;

  void Count(std::vector<int64_t> first, std::vector<int64_t> second) {
    std::copy(first.begin(), first.end(), statistics->counts(0).as<int64_t>());
    std::copy(second.begin(), second.end(), statistics->counts(1).as<int64_t>());
  }
  void FinishMicroBatch() { statistics->FinishMicroBatch(bench.ctx(), 1); }
  void FinishStep() {
    FinishMicroBatch();
    auto world = CreateLocalCommunicators(1, absl::Seconds(10));
    statistics->FinishStep(bench.ctx(), *world[0]);
  }
  std::unique_ptr<BalanceLosses> Start(const BalanceSettings& settings) {
    auto losses = BalanceLosses::Create(*statistics, settings).value();
    losses->StartStep(bench.ctx(), 4);
    return losses;
  }
  LossSums::Values Add(BalanceLosses& losses) {
    LossSums sums = LossSums::Create(Device{}).value();
    losses.Add(bench.ctx(), 0, bench.Floats({2, 2}, {1, 2, 3, 4}), sums);
    return sums.Read(*bench.ctx().stream);
  }
};

constexpr BalanceSettings kPrevious{.pool_coefficient = 0.5,
                                    .layer_coefficient = 0.25,
                                    .pool_source = BalanceSource::kPreviousStep,
                                    .layer_source = BalanceSource::kPreviousStep};
constexpr BalanceSettings kLocal{.pool_coefficient = 0.5,
                                 .layer_coefficient = 0.25,
                                 .pool_source = BalanceSource::kThisRank,
                                 .layer_source = BalanceSource::kThisRank};

TEST(BalanceLosses, AreZeroBeforeThereAreCounts) {
  Balanced balanced;
  balanced.Count({1, 1}, {1, 1});
  const auto previous = balanced.Start(kPrevious), local = balanced.Start(kLocal);
  for (BalanceLosses* losses : {previous.get(), local.get()}) {
    EXPECT_EQ(balanced.Add(*losses).pool_balance, 0);
  }
  EXPECT_EQ(balanced.Add(*previous).layer_balance, 0);
  EXPECT_EQ(previous->score_gradient(0).as<float>()[0], 0);
  EXPECT_GT(balanced.Add(*local).layer_balance, 0);  // this micro-batch has counts
}

// As after a rewind to a checkpoint from before the first step.
TEST(BalanceLosses, AreZeroAgainAfterCountsAreCleared) {
  Balanced balanced;
  balanced.Count({3, 1}, {1, 1});
  balanced.FinishStep();
  const auto previous = balanced.Start(kPrevious);
  EXPECT_GT(balanced.Add(*previous).pool_balance, 0);
  balanced.statistics->Restore({});
  previous->StartStep(balanced.bench.ctx(), 4);
  EXPECT_EQ(balanced.Add(*previous).pool_balance, 0);
  EXPECT_EQ(balanced.Add(*previous).layer_balance, 0);
}

TEST(BalanceLosses, FollowTheFormulasByHand) {
  Balanced balanced;
  balanced.Count({3, 1}, {1, 1});
  balanced.FinishStep();
  const auto losses = balanced.Start(kPrevious);  // 4 tokens, 2 of them on this rank
  const LossSums::Values sums = balanced.Add(*losses);
  // Layer: 0.25 * 2 * (3/4 * 4/4 + 1/4 * 6/4); pool: 0.5 * 2 / 2 * (4/6 * 4/4 + 2/6 * 6/4).
  EXPECT_NEAR(sums.layer_balance, 0.25 * 2 * (0.75 * 1 + 0.25 * 1.5), 1e-9);
  EXPECT_NEAR(sums.pool_balance, 0.5 * 2 / 2 * (4.0 / 6 + 2.0 / 6 * 1.5), 1e-9);
  // The score gradient is the derivative of the loss by one token's score.
  const double expected = (0.25 * 2 * 0.75 + 0.5 * 2 / 2 * 4.0 / 6) / 4;
  EXPECT_NEAR(losses->score_gradient(0).as<float>()[0], expected, 1e-7);
}

// The layer loss uses the choices of this micro-batch. The pool loss uses those of the previous
// micro-batch, which may belong to another step, and not the sum of the step.
TEST(BalanceLosses, OfThisRankFollowTheFormulasByHand) {
  Balanced balanced;
  balanced.Count({7, 0}, {7, 0});
  balanced.FinishMicroBatch();
  balanced.Count({3, 1}, {1, 1});
  balanced.FinishStep();
  balanced.Count({1, 3}, {0, 0});  // the second layer has not chosen yet
  const auto losses = balanced.Start(kLocal);
  const LossSums::Values sums = balanced.Add(*losses);
  EXPECT_NEAR(sums.layer_balance, 0.25 * 2 * (0.25 * 1 + 0.75 * 1.5), 1e-9);
  EXPECT_NEAR(sums.pool_balance, 0.5 * 2 / 2 * (4.0 / 6 + 2.0 / 6 * 1.5), 1e-9);
  const double expected = (0.25 * 2 * 0.25 + 0.5 * 2 / 2 * 4.0 / 6) / 4;
  EXPECT_NEAR(losses->score_gradient(0).as<float>()[0], expected, 1e-7);
}

}  // namespace
}  // namespace unipool
