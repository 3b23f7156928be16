#include "runtime/ops/top_k.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using testing::ToVector;
using testing::Workbench;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Chosen {
  Chosen(Workbench& bench, const Tensor& scores, int64_t k)
      : ids(bench.arena().New<int32_t>({scores.dim(0), k})),
        values(bench.Poisoned({scores.dim(0), k})) {
    Compute(bench.ctx(), TopK{.scores = scores, .ids = ids, .values = values});
  }
  std::vector<int32_t> Ids() const { return {ids.as<int32_t>(), ids.as<int32_t>() + ids.numel()}; }

  Tensor ids, values;
};

TEST(TopK, ChoosesByFallingScore) {
  Workbench bench;
  const Tensor scores = bench.Floats({2, 4}, {0.1f, 0.4f, 0.3f, 0.2f, -4, -3, -2, -1});
  const Chosen chosen(bench, scores, 3);
  EXPECT_EQ(chosen.Ids(), (std::vector<int32_t>{1, 2, 3, 3, 2, 1}));
  EXPECT_EQ(ToVector(chosen.values), (std::vector<float>{0.4f, 0.3f, 0.2f, -1, -2, -3}));
}

TEST(TopK, TiesGoToTheLowestIdAndBothZerosAreEqual) {
  Workbench bench;
  const Tensor scores = bench.Floats({3, 4}, {0, 0, 0, 0, 1, 7, 7, 7, -1, -0.0f, 0.0f, -1});
  EXPECT_EQ(Chosen(bench, scores, 1).Ids(), (std::vector<int32_t>{0, 1, 1}));
  EXPECT_EQ(Chosen(bench, scores, 3).Ids(), (std::vector<int32_t>{0, 1, 2, 1, 2, 3, 1, 2, 0}));
}

std::vector<int32_t> Sorted(const Tensor& scores, int64_t k) {
  std::vector<int32_t> expected;
  for (int64_t t = 0; t < scores.dim(0); ++t) {
    const float* row = scores.as<float>() + t * scores.dim(1);
    std::vector<int32_t> order(static_cast<size_t>(scores.dim(1)));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return row[a] > row[b]; });
    expected.insert(expected.end(), order.begin(), order.begin() + k);
  }
  return expected;
}

TEST(TopK, AgreesWithAStableSortAtOddSizes) {
  Workbench bench;
  for (const int64_t experts : {1, 7, 8, 48, 97}) {
    const Tensor scores = bench.Random("scores", {9, experts});
    // Rounded, so that ties are common.
    for (int64_t i = 0; i < scores.numel(); ++i) {
      scores.as<float>()[i] = std::round(scores.as<float>()[i] * 4) / 4;
    }
    for (const int64_t most : {1, 2, 8, 48}) {
      const int64_t k = std::min<int64_t>(most, experts);
      EXPECT_EQ(Chosen(bench, scores, k).Ids(), Sorted(scores, k));
    }
  }
}

TEST(TopK, NanAndInfinityKeepIdsDistinctAndInRange) {
  Workbench bench;
  const float quiet = std::numeric_limits<float>::quiet_NaN();
  const float all_ones = std::bit_cast<float>(0xFFFFFFFFu);
  const Tensor scores = bench.Floats({3, 4}, {quiet, -quiet, quiet, all_ones, all_ones, all_ones,
                                              all_ones, all_ones, kInfinity, -kInfinity, quiet, 0});
  for (const int64_t k : {1, 3, 4}) {
    const Chosen chosen(bench, scores, k);
    for (int64_t t = 0; t < 3; ++t) {
      const int32_t* ids = chosen.ids.as<int32_t>() + t * k;
      const std::set<int32_t> distinct(ids, ids + k);
      EXPECT_EQ(static_cast<int64_t>(distinct.size()), k);
      EXPECT_GE(*distinct.begin(), 0);
      EXPECT_LT(*distinct.rbegin(), 4);
    }
  }
}

TEST(TopK, IsTheSameOnAnyNumberOfThreads) {
  Workbench bench;
  const Tensor scores = bench.Random("scores", {301, 20});
  const Chosen chosen(bench, scores, 2);
  omp_set_num_threads(5);
  EXPECT_EQ(Chosen(bench, scores, 2).Ids(), chosen.Ids());
  omp_set_num_threads(omp_get_num_procs());
}

TEST(ColumnSums, AddInDoubleAndInTokenOrder) {
  Workbench bench;
  const Tensor scores = bench.Random("scores", {100, 37}), sums = bench.arena().New<double>({37});
  std::vector<double> expected(37, 0.0);
  for (int64_t i = 0; i < 3700; ++i) expected[i % 37] += double{scores.as<float>()[i]};
  for (const int threads : {1, 2, 3}) {
    std::fill_n(sums.as<double>(), 37, 0.0);
    omp_set_num_threads(threads);
    Compute(bench.ctx(), ColumnSums{.scores = scores, .sums = sums});
    for (size_t e = 0; e < 37; ++e) EXPECT_EQ(sums.as<double>()[e], expected[e]);
  }
  omp_set_num_threads(omp_get_num_procs());
  Compute(bench.ctx(), ColumnSums{.scores = scores, .sums = sums});
  for (size_t e = 0; e < 37; ++e) EXPECT_EQ(sums.as<double>()[e], 2 * expected[e]);
}

TEST(TopK, NoTokensGiveNothingAndLeaveSumsAsTheyWere) {
  Workbench bench;
  const Tensor scores = bench.Zeros({0, 3}), sums = bench.arena().New<double>({3});
  std::fill_n(sums.as<double>(), 3, 4.0);
  EXPECT_EQ(Chosen(bench, scores, 2).Ids(), std::vector<int32_t>());
  Compute(bench.ctx(), ColumnSums{.scores = scores, .sums = sums});
  EXPECT_EQ(sums.as<double>()[2], 4.0);
}

std::vector<int64_t> Values(const Tensor& counts) {
  return {counts.as<int64_t>(), counts.as<int64_t>() + counts.numel()};
}

TEST(CountUnrouted, CountsTokensWithoutAPositiveScoreAndChoicesWithGateZero) {
  Workbench bench;
  CountUnrouted op{.ids = bench.Ints({4, 2}, {2, 0, 0, 1, 2, 1, 0, 1}),
                   .gates = bench.Floats({4, 2}, {0.5f, 0, 0, -0.0f, 1, 2, -1, -2}),
                   .tokens = bench.Longs({1}, {10}),
                   .choices = bench.Longs({3}, {100, 200, 300})};
  Compute(bench.ctx(), op);
  EXPECT_EQ(*op.tokens.as<int64_t>(), 12);
  EXPECT_THAT(Values(op.choices), ElementsAre(102, 201, 300));
  op.ids = bench.Ints({0, 2}, {});
  op.gates = bench.Zeros({0, 2});
  Compute(bench.ctx(), op);
  EXPECT_EQ(*op.tokens.as<int64_t>(), 12);
}

}  // namespace
}  // namespace unipool
