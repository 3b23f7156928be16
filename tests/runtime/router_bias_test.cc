#include "runtime/ops/router_bias.h"

#include <gtest/gtest.h>

#include <vector>

#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ToVector;
using testing::Workbench;

// The mean of 10 counts over 4 experts is not an integer. The mean of 12 is, and the bias of the
// expert with that count does not change.
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
