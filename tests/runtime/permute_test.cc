#include "runtime/ops/permute.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/ops/compute.h"
#include "tests/support/grad_check.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Dot;
using testing::ExpectGradient;
using testing::ToVector;
using testing::Workbench;

TEST(GatherRows, CopiesNamedRows) {
  Workbench bench;
  const Tensor x = bench.Floats({3, 2}, {0, 1, 10, 11, 20, 21}), y = bench.Poisoned({4, 2});
  Compute(bench.ctx(), GatherRows{.x = x, .index = bench.Ints({4}, {2, 2, 0, 1}), .y = y});
  EXPECT_EQ(ToVector(y), (std::vector<float>{20, 21, 20, 21, 0, 1, 10, 11}));
}

TEST(GatherRows, LeavesARowWithoutASourceAsItIs) {
  Workbench bench;
  const Tensor x = bench.Floats({2, 1}, {5, 6}), y = bench.Floats({3, 1}, {1, 2, 3});
  Compute(bench.ctx(), GatherRows{.x = x, .index = bench.Ints({3}, {1, -1, 0}), .y = y});
  EXPECT_EQ(ToVector(y), (std::vector<float>{6, 2, 5}));
}

TEST(GatherRows, NoRowsFromNoRows) {
  Workbench bench;
  const Tensor none = bench.Zeros({0, 2});
  Compute(bench.ctx(), GatherRows{.x = none, .index = bench.Ints({0}, {}), .y = none});
}

TEST(CombineRows, WeighsCopiesByTheirGates) {
  Workbench bench;
  const Tensor rows = bench.Floats({4, 1}, {1, 10, 100, 1000}), y = bench.Poisoned({2, 1});
  CombineRows op{.rows = rows,
                 .positions = bench.Ints({2, 2}, {3, 0, 1, 2}),
                 .gates = bench.Floats({2, 2}, {2, 3, 4, 5}),
                 .base = Tensor{},
                 .y = y};
  Compute(bench.ctx(), op);
  EXPECT_EQ(ToVector(y), (std::vector<float>{2003, 540}));
  op.base = y;
  Compute(bench.ctx(), op);
  EXPECT_EQ(ToVector(y), (std::vector<float>{4006, 1080}));
  op.base = bench.Floats({2, 1}, {7, 8});
  Compute(bench.ctx(), op);
  EXPECT_EQ(ToVector(y), (std::vector<float>{2010, 548}));
  op.gates = Tensor{};
  op.base = Tensor{};
  Compute(bench.ctx(), op);
  EXPECT_EQ(ToVector(y), (std::vector<float>{1001, 110}));
}

// Three choices have a row, and the second token has none. There may be more rows than choices use.
TEST(CombineRows, AChoiceWithoutARowAddsNothingAndHasNoGradient) {
  Workbench bench;
  const Tensor rows = bench.Floats({4, 1}, {1, 10, 100, NAN}), y = bench.Floats({3, 1}, {7, 8, 9});
  const Tensor positions = bench.Ints({3, 2}, {2, -1, -1, -1, 0, 1});
  const Tensor gates = bench.Floats({3, 2}, {2, 0, 0, 0, 3, 4});
  Compute(bench.ctx(),
          CombineRows{.rows = rows, .positions = positions, .gates = gates, .base = y, .y = y});
  EXPECT_EQ(ToVector(y), (std::vector<float>{207, 8, 52}));
  const Tensor dgates = bench.Poisoned({3, 2}), drows = bench.Floats({4, 1}, {-1, -1, -1, -1});
  Compute(bench.ctx(), CombineRowsBackward{.dy = bench.Floats({3, 1}, {1, 1, 2}),
                                           .rows = rows,
                                           .positions = positions,
                                           .gates = gates,
                                           .drows = drows,
                                           .dgates = dgates});
  EXPECT_EQ(ToVector(dgates), (std::vector<float>{100, 0, 0, 0, 2, 20}));
  EXPECT_EQ(ToVector(drows), (std::vector<float>{6, 8, 2, -1}));
}

TEST(CombineRows, MayHaveNoRowsAtAll) {
  Workbench bench;
  const Tensor y = bench.Poisoned({2, 3}), rows = bench.Zeros({0, 3});
  Compute(bench.ctx(), CombineRows{.rows = rows,
                                   .positions = bench.Ints({2, 1}, {-1, -1}),
                                   .gates = Tensor{},
                                   .base = Tensor{},
                                   .y = y});
  EXPECT_EQ(ToVector(y), std::vector<float>(6, 0));
}

struct CombineCase {
  explicit CombineCase(Workbench& bench)
      : rows(bench.Random("rows", {6, 19})),
        positions(bench.Ints({3, 2}, {5, 0, 2, 4, 1, 3})),
        gates(bench.Random("gates", {3, 2})),
        dy(bench.Random("dy", {3, 19})),
        y(bench.Poisoned({3, 19})),
        drows(bench.Poisoned({6, 19})),
        dgates(bench.Poisoned({3, 2})) {}

  CombineRowsBackward Backward() const {
    return {.dy = dy,
            .rows = rows,
            .positions = positions,
            .gates = gates,
            .drows = drows,
            .dgates = dgates};
  }

  Tensor rows, positions, gates, dy, y, drows, dgates;
};

TEST(CombineRows, GradientsMatchFiniteDifferences) {
  Workbench bench;
  const CombineCase test(bench);
  const auto loss = [&] {
    Compute(bench.ctx(), CombineRows{.rows = test.rows,
                                     .positions = test.positions,
                                     .gates = test.gates,
                                     .base = Tensor{},
                                     .y = test.y});
    return Dot(test.y, test.dy);
  };
  Compute(bench.ctx(), test.Backward());
  ExpectGradient(test.rows, test.drows, loss, {.tolerance = 1e-3});
  ExpectGradient(test.gates, test.dgates, loss, {.tolerance = 1e-3});
}

TEST(CombineRows, BackwardMayOverwriteTheRows) {
  Workbench bench;
  CombineCase test(bench);
  Compute(bench.ctx(), test.Backward());
  const Tensor drows = test.drows, dgates = bench.Copy(test.dgates);
  test.drows = test.rows;
  Compute(bench.ctx(), test.Backward());
  EXPECT_EQ(ToVector(test.rows), ToVector(drows));
  EXPECT_EQ(ToVector(test.dgates), ToVector(dgates));
}

TEST(PermuteDeathTest, NamesAnIndexOutOfRange) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Workbench bench;
  const Tensor x = bench.Zeros({2, 3});
  EXPECT_DEATH(Compute(bench.ctx(), GatherRows{.x = x, .index = bench.Ints({2}, {0, 2}), .y = x}),
               "gather_rows: id 2 at position 1");
  EXPECT_DEATH(Compute(bench.ctx(), CombineRows{.rows = x,
                                                .positions = bench.Ints({2, 1}, {-2, 0}),
                                                .gates = Tensor{},
                                                .base = Tensor{},
                                                .y = x}),
               "combine_rows: id -2 at position 0");
}

}  // namespace
}  // namespace unipool
