#include "runtime/finite_check.h"

#include <gtest/gtest.h>

#include <limits>

#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Workbench;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(FiniteCheck, FindsTheFirstBadElement) {
  Workbench bench;
  EXPECT_EQ(FirstNonFinite(bench.Floats({3}, {1, 2, 3e38f})), -1);
  EXPECT_EQ(FirstNonFinite(bench.Floats({2, 2}, {1, 2, -kInfinity, kNan})), 2);
  EXPECT_EQ(FirstNonFinite(bench.Ints({1}, {-1})), -1);
  EXPECT_EQ(FirstNonFinite(bench.Zeros({0})), -1);
  EXPECT_EQ(FirstNonFinite(Tensor{}), -1);
}

TEST(FiniteCheck, InspectsDoublesToo) {
  double sums[2] = {1e300, std::numeric_limits<double>::quiet_NaN()};
  EXPECT_EQ(FirstNonFinite(Tensor::Of(sums, {2})), 1);
  FiniteCheck check{.where = "router", .first = ""};
  check.Look("column_sums", Tensor::Of(sums, {2}));
  EXPECT_EQ(check.first, "output float64[2] of column_sums in router, element 1 = nan");
}

TEST(FiniteCheck, RecordsTheFirstOpWhoseOutputIsBad) {
  Workbench bench;
  FiniteCheck check{.where = "model.layers.3.mlp", .first = ""};
  bench.ctx().finite_check = &check;
  const Tensor a = bench.Floats({2}, {1, 3e38f}), y = bench.Zeros({2});
  Compute(bench.ctx(), Copy{.x = a, .y = y});
  EXPECT_EQ(check.first, "");
  Compute(bench.ctx(), Add{.a = a, .b = a, .y = y});
  Compute(bench.ctx(), Fill{.x = y, .value = double{kNan}});
  EXPECT_EQ(check.first, "output float32[2] of add in model.layers.3.mlp, element 1 = inf");
}

}  // namespace
}  // namespace unipool
