#include "runtime/ops/route_tokens.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "runtime/ops/compute.h"
#include "tests/support/route_case.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ExpectNear;
using testing::ForEachRouteSize;
using testing::kScoreKinds;
using testing::RouteCase;
using testing::RouteSize;
using testing::ToVector;
using testing::Workbench;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int32_t> Ids(const Tensor& ids) {
  return {ids.as<int32_t>(), ids.as<int32_t>() + ids.numel()};
}
std::vector<int64_t> Counts(const Tensor& counts) {
  return {counts.as<int64_t>(), counts.as<int64_t>() + counts.numel()};
}

// Checks the scores of two tokens and two experts, and that computing in place gives the same bits.
void ExpectScoresOf(ScoreKind kind, const std::vector<float>& logits,
                    const std::vector<float>& expected) {
  Workbench bench;
  RouteCase test(bench, kind, {.tokens = 2, .experts = 2, .k = 1});
  test.logits = bench.Floats({2, 2}, logits);
  Compute(bench.ctx(), test.Scoring());
  ExpectNear(test.scores, bench.Floats({2, 2}, expected), 1e-6);
  const Tensor apart = test.scores;
  test.scores = test.logits;
  Compute(bench.ctx(), test.Scoring());
  EXPECT_EQ(ToVector(test.logits), ToVector(apart));
}

TEST(RouteTokens, ScoresMatchTheFormulasByHandAndInPlace) {
  const float three = std::log(3.0f);
  ExpectScoresOf(ScoreKind::kSoftmax, {0, three, 5, 5}, {0.25f, 0.75f, 0.5f, 0.5f});
  ExpectScoresOf(ScoreKind::kSigmoid, {0, three, -three, 200}, {0.5f, 0.75f, 0.25f, 1});
}

TEST(RouteTokens, NormScoresMatchTheFormulaByHand) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kNorm, {.tokens = 1, .experts = 3, .k = 1});
  test.logits = bench.Floats({1, 3}, {3, -4, 0});
  test.scale = bench.Floats({1}, {2});
  test.c = 3;
  test.eps = 1;
  Compute(bench.ctx(), test.Scoring());
  ExpectNear(test.scores, bench.Floats({1, 3}, {2 * 3 * 3.0f / 6.0f, 0, 0}), 1e-6);
}

TEST(RouteTokens, ARowOfZerosHasNormScoresOfExactZerosEvenWithoutEps) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kNorm, {.tokens = 2, .experts = 11, .k = 2});
  test.eps = 0;
  std::fill_n(test.logits.as<float>(), 11, 0.0f);
  Compute(bench.ctx(), test.Forward());
  EXPECT_EQ(ToVector(test.scores.Rows(0, 1)), std::vector<float>(11, 0.0f));
  EXPECT_EQ(Ids(test.ids.Rows(0, 1)), (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(ToVector(test.gates.Rows(0, 1)), (std::vector<float>{0, 0}));
}

TEST(RouteTokens, NormScoresDoNotDependOnTheSizeOfTheLogits) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kNorm, {.tokens = 1, .experts = 16, .k = 1});
  test.eps = 0;
  Compute(bench.ctx(), test.Scoring());
  const Tensor expected = bench.Copy(test.scores);
  for (const float factor : {0x1p-90f, 0x1p90f}) {
    for (int64_t i = 0; i < 16; ++i) test.logits.as<float>()[i] *= factor;
    Compute(bench.ctx(), test.Scoring());
    ExpectNear(test.scores, expected, 0, 1e-6);
    for (int64_t i = 0; i < 16; ++i) test.logits.as<float>()[i] /= factor;
  }
}

TEST(RouteTokens, NanStaysInItsRow) {
  for (const ScoreKind kind : kScoreKinds) {
    Workbench bench;
    RouteCase test(bench, kind, {.tokens = 2, .experts = 10, .k = 2, .normalized = true});
    test.logits.as<float>()[3] = NAN;
    Compute(bench.ctx(), test.Forward());
    for (int64_t e = 0; e < 10; ++e) {
      // sigmoid scores are independent of each other
      const bool independent = kind == ScoreKind::kSigmoid && e != 3;
      EXPECT_EQ(std::isnan(test.scores.as<float>()[e]), !independent);
      EXPECT_TRUE(std::isfinite(test.scores.as<float>()[10 + e]));
    }
    for (int64_t j = 0; j < 2; ++j) EXPECT_TRUE(std::isfinite(test.gates.as<float>()[2 + j]));
    EXPECT_TRUE(std::isfinite(test.gate_sums.as<float>()[1]));
  }
}

void ExpectDistinctInRange(const RouteCase& test) {
  for (int64_t t = 0; t < test.size.tokens; ++t) {
    const int32_t* ids = test.ids.as<int32_t>() + t * test.size.k;
    const std::set<int32_t> distinct(ids, ids + test.size.k);
    EXPECT_EQ(static_cast<int64_t>(distinct.size()), test.size.k);
    EXPECT_GE(*distinct.begin(), 0);
    EXPECT_LT(*distinct.rbegin(), test.size.experts);
  }
}

TEST(RouteTokens, NanAndInfinityKeepIdsDistinctAndInRange) {
  const float quiet = std::numeric_limits<float>::quiet_NaN();
  const float ones = std::bit_cast<float>(0xFFFFFFFFu);
  const std::vector<float> logits = {quiet,     -quiet,     quiet,     ones,  //
                                     ones,      ones,       ones,      ones,  //
                                     kInfinity, -kInfinity, quiet,     0,     //
                                     kInfinity, 1,          kInfinity, -kInfinity};
  for (const ScoreKind kind : kScoreKinds) {
    for (const int64_t k : {1, 3, 4}) {
      Workbench bench;
      RouteCase test(bench, kind, {.tokens = 4, .experts = 4, .k = k});
      test.logits = bench.Floats({4, 4}, logits);
      Compute(bench.ctx(), test.Forward());
      ExpectDistinctInRange(test);
    }
  }
}

TEST(RouteTokens, ChoosesByFallingScoreAndCounts) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kSigmoid, {.tokens = 2, .experts = 4, .k = 3});
  test.logits = bench.Floats({2, 4}, {0.1f, 0.4f, 0.3f, 0.2f, -4, -3, -2, -1});
  test.counts = bench.Longs({4}, {0, 0, 0, 10});
  Compute(bench.ctx(), test.Forward());
  EXPECT_EQ(Ids(test.ids), (std::vector<int32_t>{1, 2, 3, 3, 2, 1}));
  const float* s = test.scores.as<float>();
  EXPECT_EQ(ToVector(test.gates), (std::vector<float>{s[1], s[2], s[3], s[7], s[6], s[5]}));
  EXPECT_EQ(Counts(test.counts), (std::vector<int64_t>{0, 2, 2, 12}));
}

TEST(RouteTokens, TiesGoToTheLowestId) {
  for (const ScoreKind kind : kScoreKinds) {
    Workbench bench;
    RouteCase test(bench, kind, {.tokens = 3, .experts = 4, .k = 3});
    test.logits = bench.Floats({3, 4}, {2, 2, 2, 2, 1, 7, 7, 7, 1, 3, 2, 1});
    Compute(bench.ctx(), test.Forward());
    EXPECT_EQ(Ids(test.ids), (std::vector<int32_t>{0, 1, 2, 1, 2, 3, 1, 2, 0}));
  }
}

// Negative logits have scores of zero; they tie although the logits differ.
TEST(RouteTokens, NormScoresOfZeroAreTies) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kNorm, {.tokens = 2, .experts = 4, .k = 3});
  test.logits = bench.Floats({2, 4}, {-4, -3, -2, -1, -4, -0.0f, -2, 1});
  Compute(bench.ctx(), test.Forward());
  EXPECT_EQ(Ids(test.ids), (std::vector<int32_t>{0, 1, 2, 3, 0, 1}));
  test.scale = bench.Floats({1}, {-1});  // the zeros become -0, and the last score is negative
  Compute(bench.ctx(), test.Forward());
  EXPECT_EQ(Ids(test.ids), (std::vector<int32_t>{0, 1, 2, 0, 1, 2}));
}

TEST(RouteTokens, ABiasEntersTheChoiceButNotTheGates) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kSoftmax, {.tokens = 2, .experts = 3, .k = 2, .biased = true});
  const float two = std::log(2.0f);
  // scores 4/7 2/7 1/7 and 1/4 2/4 1/4
  test.logits = bench.Floats({2, 3}, {2 * two, two, 0, 0, two, 0});
  test.bias = bench.Floats({3}, {-0.5f, 0, 1});
  Compute(bench.ctx(), test.Forward());
  EXPECT_EQ(Ids(test.ids), (std::vector<int32_t>{2, 1, 2, 1}));
  ExpectNear(test.gates, bench.Floats({2, 2}, {1.0f / 7, 2.0f / 7, 0.25f, 0.5f}), 1e-6);
  EXPECT_EQ(Counts(test.counts), (std::vector<int64_t>{3, 5, 5}));
}

TEST(RouteTokens, NormalizedGatesOfATokenSumToOne) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kNorm, {.tokens = 3, .experts = 3, .k = 2, .normalized = true});
  test.logits = bench.Floats({3, 3}, {2, 1, -2, -1, 2, 2, -1, -1, -1});
  test.scale = bench.Floats({1}, {1});
  test.c = 3;
  test.eps = 0;
  Compute(bench.ctx(), test.Forward());
  ExpectNear(test.gates, bench.Floats({3, 2}, {2.0f / 3, 1.0f / 3, 0.5f, 0.5f, 0, 0}), 1e-7);
  ExpectNear(test.gate_sums, bench.Floats({3}, {3, 4, 1e-20f}), 0, 1e-6);
}

// Reference choice: a stable sort of scores plus bias.
std::vector<int32_t> Sorted(const RouteCase& test) {
  std::vector<int32_t> expected;
  const int64_t experts = test.size.experts;
  for (int64_t t = 0; t < test.size.tokens; ++t) {
    std::vector<float> row(test.scores.as<float>() + t * experts,
                           test.scores.as<float>() + (t + 1) * experts);
    for (int64_t e = 0; e < experts && test.size.biased; ++e) row[e] += test.bias.as<float>()[e];
    std::vector<int32_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return row[a] > row[b]; });
    expected.insert(expected.end(), order.begin(), order.begin() + test.size.k);
  }
  return expected;
}

void ExpectScores(const RouteCase& test) {
  for (int64_t t = 0; t < test.size.tokens; ++t) {
    const std::vector<double> row = test.ScoresInDouble(t);
    for (int64_t e = 0; e < test.size.experts; ++e) {
      const double actual = double{test.scores.as<float>()[t * test.size.experts + e]};
      ASSERT_NEAR(actual, row[static_cast<size_t>(e)], 1e-6) << test.size.experts << " experts";
    }
  }
}

void ExpectGates(const RouteCase& test) {
  const int64_t k = test.size.k;
  for (int64_t t = 0; t < test.size.tokens; ++t) {
    const float* scores = test.scores.as<float>() + t * test.size.experts;
    const int32_t* ids = test.ids.as<int32_t>() + t * k;
    double sum = 1e-20;
    for (int64_t j = 0; j < k; ++j) sum += double{scores[ids[j]]};
    if (test.size.normalized) {
      ASSERT_NEAR(double{test.gate_sums.as<float>()[t]}, sum, 1e-5 * sum);
    }
    for (int64_t j = 0; j < k; ++j) {
      const float gate = test.gates.as<float>()[t * k + j];
      if (test.size.normalized) {
        ASSERT_NEAR(double{gate}, double{scores[ids[j]]} / sum, 1e-5);
      } else {
        ASSERT_EQ(gate, scores[ids[j]]);
      }
    }
  }
}

TEST(RouteTokens, AgreesWithDoublesAndAStableSortAtAllSizes) {
  ForEachRouteSize([](ScoreKind kind, const RouteSize& size) {
    Workbench bench;
    RouteCase test(bench, kind, size);
    test.Coarsen();
    Compute(bench.ctx(), test.Forward());
    ExpectScores(test);
    ASSERT_EQ(Ids(test.ids), Sorted(test));
    ExpectGates(test);
    std::vector<int64_t> counts(static_cast<size_t>(size.experts), RouteCase::kCounted);
    for (const int32_t id : Ids(test.ids)) ++counts[static_cast<size_t>(id)];
    ASSERT_EQ(Counts(test.counts), counts);
  });
}

TEST(RouteTokens, ScoresAloneHaveTheSameBitsAndASecondRunToo) {
  ForEachRouteSize([](ScoreKind kind, const RouteSize& size) {
    Workbench bench;
    RouteCase test(bench, kind, size), again(bench, kind, size);
    Compute(bench.ctx(), test.Forward());
    Compute(bench.ctx(), again.Forward());
    ASSERT_EQ(ToVector(test.scores), ToVector(again.scores));
    ASSERT_EQ(Ids(test.ids), Ids(again.ids));
    ASSERT_EQ(ToVector(test.gates), ToVector(again.gates));
    if (size.normalized) {
      ASSERT_EQ(ToVector(test.gate_sums), ToVector(again.gate_sums));
    }
    again.scores = bench.Poisoned({size.tokens, size.experts});
    Compute(bench.ctx(), again.Scoring());
    ASSERT_EQ(ToVector(test.scores), ToVector(again.scores));
  });
}

TEST(RouteTokens, AreTheSameOnAnyNumberOfThreadsAndCountsAreAdded) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kSigmoid,
                 {.tokens = 301, .experts = 20, .k = 2, .normalized = true});
  test.counts = bench.Longs({20}, std::vector<int64_t>(20, 0));
  Compute(bench.ctx(), test.Forward());
  const std::vector<int64_t> once = Counts(test.counts);
  EXPECT_EQ(std::accumulate(once.begin(), once.end(), int64_t{0}), 602);
  const std::vector<float> gates = ToVector(test.gates), scores = ToVector(test.scores);
  const std::vector<int32_t> ids = Ids(test.ids);
  for (const int threads : {1, 2, 5}) {
    omp_set_num_threads(threads);
    Compute(bench.ctx(), test.Forward());
    EXPECT_TRUE(ToVector(test.gates) == gates && ToVector(test.scores) == scores);
    EXPECT_EQ(Ids(test.ids), ids);
  }
  omp_set_num_threads(omp_get_num_procs());
  for (size_t e = 0; e < 20; ++e) EXPECT_EQ(Counts(test.counts)[e], 4 * once[e]);
}

}  // namespace
}  // namespace unipool
