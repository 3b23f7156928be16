#include "runtime/ops/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Dot;
using testing::ExpectNear;
using testing::ToVector;
using testing::Workbench;

constexpr double kBase = 1e6;

Tensor Table(Workbench& bench, int64_t positions, int64_t head_dim) {
  const Tensor table = bench.Poisoned({positions, head_dim});
  Compute(bench.ctx(), RopeTable{.base = kBase, .table = table});
  return table;
}

TEST(Rope, TableHoldsCosinesThenSines) {
  Workbench bench;
  const Tensor table = Table(bench, 1024, 4);
  for (const int64_t p : {0, 1, 1023}) {
    const double slow = static_cast<double>(p) / 1000;  // base^(-2/4)
    const double fast = static_cast<double>(p);
    const float* row = table.as<float>() + p * 4;
    EXPECT_FLOAT_EQ(row[0], static_cast<float>(std::cos(fast)));
    EXPECT_FLOAT_EQ(row[1], static_cast<float>(std::cos(slow)));
    EXPECT_FLOAT_EQ(row[2], static_cast<float>(std::sin(fast)));
    EXPECT_FLOAT_EQ(row[3], static_cast<float>(std::sin(slow)));
  }
}

TEST(Rope, RotatesPairsOfTheTwoHalvesByHand) {
  Workbench bench;
  const Tensor table = bench.Floats({2, 4}, {1, 1, 0, 0, 0.6f, 0, 0.8f, 1});
  const Tensor x = bench.Floats({2, 4}, {1, 2, 3, 4, 1, 2, 3, 4});
  Compute(bench.ctx(), Rope{.x = x, .table = table, .heads = 1, .sequence = 2, .inverse = false});
  const std::vector<float> expected = {1, 2, 3, 4, 0.6f - 2.4f, -4, 1.8f + 0.8f, 2};
  ExpectNear(x, bench.Floats({2, 4}, expected), 1e-6);
}

TEST(Rope, RotatesOnlyTheFirstHeadsOfARow) {
  Workbench bench;
  const Tensor table = Table(bench, 3, 6), x = bench.Random("x", {3, 20});
  const std::vector<float> before = ToVector(x);
  Compute(bench.ctx(), Rope{.x = x, .table = table, .heads = 2, .sequence = 3, .inverse = false});
  for (size_t i = 0; i < before.size(); ++i) {
    const bool untouched = i % 20 >= 12 || i < 20;  // the first token has angle 0
    EXPECT_EQ(x.as<float>()[i] == before[i], untouched) << i;
  }
}

TEST(Rope, PositionsStartAgainInEachSequence) {
  Workbench bench;
  const Tensor table = Table(bench, 8, 6), x = bench.Random("x", {10, 6});
  const Tensor second = bench.Copy(x.Rows(5, 10));
  Compute(bench.ctx(), Rope{.x = x, .table = table, .heads = 1, .sequence = 5, .inverse = false});
  Compute(bench.ctx(),
          Rope{.x = second, .table = table, .heads = 1, .sequence = 5, .inverse = false});
  EXPECT_EQ(ToVector(x.Rows(5, 10)), ToVector(second));
}

TEST(Rope, InverseIsTheTransposeAndUndoesIt) {
  Workbench bench;
  const Tensor table = Table(bench, 5, 10), x = bench.Random("x", {5, 30});
  const Tensor dy = bench.Random("dy", {5, 30}), y = bench.Copy(x), dx = bench.Copy(dy);
  Compute(bench.ctx(), Rope{.x = y, .table = table, .heads = 3, .sequence = 5, .inverse = false});
  Compute(bench.ctx(), Rope{.x = dx, .table = table, .heads = 3, .sequence = 5, .inverse = true});
  EXPECT_NEAR(Dot(y, dy), Dot(x, dx), 1e-4);
  Compute(bench.ctx(), Rope{.x = y, .table = table, .heads = 3, .sequence = 5, .inverse = true});
  ExpectNear(y, x, 1e-6);
}

TEST(Rope, TakesNoTokensAndNoHeads) {
  Workbench bench;
  const Tensor table = Table(bench, 1, 2), x = bench.Floats({1, 2}, {1, 2});
  const Tensor none = bench.Zeros({0, 2});
  Compute(bench.ctx(),
          Rope{.x = none, .table = table, .heads = 1, .sequence = 1, .inverse = false});
  Compute(bench.ctx(), Rope{.x = x, .table = table, .heads = 0, .sequence = 1, .inverse = false});
  EXPECT_EQ(ToVector(x), (std::vector<float>{1, 2}));
}

}  // namespace
}  // namespace unipool
