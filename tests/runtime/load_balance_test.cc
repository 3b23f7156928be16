#include "runtime/ops/load_balance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using testing::ToVector;
using testing::Workbench;

template <typename T>
std::vector<T> Values(const Tensor& tensor) {
  return {tensor.as<T>(), tensor.as<T>() + tensor.numel()};
}

Tensor Doubles(Workbench& bench, std::initializer_list<int64_t> dims,
               const std::vector<double>& values) {
  const Tensor tensor = bench.arena().New<double>(dims);
  std::copy(values.begin(), values.end(), tensor.as<double>());
  return tensor;
}

TEST(AccumulateCounts, MovesTheCountsOn) {
  Workbench bench;
  const AccumulateCounts op{.counts = bench.Longs({3}, {4, 0, 1}),
                            .step = bench.Longs({3}, {10, 20, 30}),
                            .previous = bench.Longs({3}, {-1, -1, -1})};
  Compute(bench.ctx(), op);
  EXPECT_THAT(Values<int64_t>(op.counts), ElementsAre(0, 0, 0));
  EXPECT_THAT(Values<int64_t>(op.step), ElementsAre(14, 20, 31));
  EXPECT_THAT(Values<int64_t>(op.previous), ElementsAre(4, 0, 1));
}

TEST(LoadShares, AreOfAllLayersTogether) {
  Workbench bench;
  const LoadShares op{.counts = bench.Longs({2, 3}, {4, 0, 0, 0, 1, 3}),
                      .factor = 2,
                      .shares = Doubles(bench, {3}, {-1, -1, -1})};
  Compute(bench.ctx(), op);
  EXPECT_THAT(Values<double>(op.shares), ElementsAre(1, 0.25, 0.75));
}

TEST(LoadShares, AreEvenIfNothingWasCounted) {
  Workbench bench;
  const LoadShares op{
      .counts = bench.Longs({1, 2}, {0, 0}), .factor = 3, .shares = Doubles(bench, {2}, {-1, -1})};
  Compute(bench.ctx(), op);
  EXPECT_THAT(Values<double>(op.shares), ElementsAre(1.5, 1.5));
}

TEST(BalanceLoss, AddsBothLossesAndGivesTheirDerivative) {
  Workbench bench;
  const BalanceLoss op{.column_sums = Doubles(bench, {2}, {3, 5}),
                       .weights = Doubles(bench, {2, 2}, {1, 2, 0.5, 0.25}),
                       .losses = Doubles(bench, {2}, {100, 200}),
                       .score_gradient = bench.Poisoned({2})};
  Compute(bench.ctx(), op);
  EXPECT_THAT(Values<double>(op.losses), ElementsAre(113, 202.75));
  EXPECT_THAT(ToVector(op.score_gradient), ElementsAre(1.5f, 2.25f));
}

}  // namespace
}  // namespace unipool
