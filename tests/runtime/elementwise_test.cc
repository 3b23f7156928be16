#include "runtime/ops/elementwise.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ToVector;
using testing::Workbench;

constexpr int64_t kLarge = 40001;  // several blocks, and odd

TEST(Add, GivesTheSumAlsoInPlace) {
  Workbench bench;
  const Tensor a = bench.Random("a", {kLarge}), b = bench.Random("b", {kLarge});
  const Tensor y = bench.Poisoned({kLarge});
  Compute(bench.ctx(), Add{.a = a, .b = b, .y = y});
  for (int64_t i = 0; i < kLarge; ++i) {
    ASSERT_EQ(y.as<float>()[i], a.as<float>()[i] + b.as<float>()[i]) << i;
  }
  const Tensor in_b = bench.Copy(b);
  Compute(bench.ctx(), Add{.a = a, .b = in_b, .y = in_b});
  EXPECT_EQ(ToVector(in_b), ToVector(y));
  Compute(bench.ctx(), Add{.a = a, .b = b, .y = a});
  EXPECT_EQ(ToVector(a), ToVector(y));
}

TEST(Fill, WritesEveryElementOfEachType) {
  Workbench bench;
  const Tensor floats = bench.Poisoned({kLarge}), longs = bench.Longs({3}, {1, 2, 3});
  const Tensor doubles = bench.arena().New<double>({2});
  Compute(bench.ctx(), Fill{.x = floats, .value = 1.5});
  Compute(bench.ctx(), Fill{.x = longs, .value = -4});
  Compute(bench.ctx(), Fill{.x = doubles, .value = 0.1});
  EXPECT_EQ(ToVector(floats), std::vector<float>(kLarge, 1.5f));
  for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(longs.as<int64_t>()[i], -4);
  for (int64_t i = 0; i < 2; ++i) EXPECT_EQ(doubles.as<double>()[i], 0.1);
}

TEST(Copy, CopiesEveryElementOfEachType) {
  Workbench bench;
  const Tensor x = bench.Random("x", {kLarge}), y = bench.Poisoned({kLarge});
  Compute(bench.ctx(), Copy{.x = x, .y = y});
  EXPECT_EQ(ToVector(x), ToVector(y));
  const Tensor from = bench.Longs({2}, {int64_t{1} << 40, -1}), to = bench.Longs({2}, {0, 0});
  Compute(bench.ctx(), Copy{.x = from, .y = to});
  EXPECT_EQ(to.as<int64_t>()[0], int64_t{1} << 40);
  EXPECT_EQ(to.as<int64_t>()[1], -1);
}

TEST(Cast, RoundsToNearestEvenAndBack) {
  Workbench bench;
  const float step = 1.0f / 128, inf = INFINITY;
  const Tensor x =
      bench.Floats({6}, {1 + step / 2, 1 + 1.5f * step, 1 + 0.51f * step, 3e38f * 10, -inf, NAN});
  const Tensor low = bench.arena().Allocate(DType::kBFloat16, {6}), y = bench.Poisoned({6});
  Compute(bench.ctx(), Cast{.x = x, .y = low});
  Compute(bench.ctx(), Cast{.x = low, .y = y});
  const std::vector<float> actual = ToVector(y), expected = {1, 1 + 2 * step, 1 + step, inf, -inf};
  EXPECT_EQ(std::vector<float>(actual.begin(), actual.end() - 1), expected);
  EXPECT_TRUE(std::isnan(actual[5]));
}

TEST(SumOfSquares, AddsInDouble) {
  Workbench bench;
  const Tensor sum = bench.arena().New<double>({1}), x = bench.Floats({3}, {1e-4f, 3, 1e4f});
  sum.as<double>()[0] = 0.5;
  Compute(bench.ctx(), SumOfSquares{.x = x, .sum = sum});
  const double small = 1e-4f;
  EXPECT_NEAR(sum.as<double>()[0], 0.5 + small * small + 9 + 1e8, 1e-7);
  Compute(bench.ctx(), SumOfSquares{.x = bench.Zeros({0}), .sum = sum});
  EXPECT_NEAR(sum.as<double>()[0], 0.5 + small * small + 9 + 1e8, 1e-7);
}

TEST(SumOfSquares, HasTheSameBitsOnAnyNumberOfThreads) {
  Workbench bench;
  const Tensor sum = bench.arena().New<double>({1}), x = bench.Random("x", {kLarge});
  double expected = 0;
  for (int64_t i = 0; i < kLarge; ++i) expected += std::pow(double{x.as<float>()[i]}, 2);
  std::vector<double> seen;
  for (const int threads : {1, 2, 3, 7}) {
    sum.as<double>()[0] = 0;
    omp_set_num_threads(threads);
    Compute(bench.ctx(), SumOfSquares{.x = x, .sum = sum});
    seen.push_back(sum.as<double>()[0]);
  }
  omp_set_num_threads(omp_get_num_procs());
  EXPECT_NEAR(seen[0], expected, 1e-8 * expected);
  EXPECT_EQ(seen, std::vector<double>(4, seen[0]));
}

TEST(ElementwiseDeathTest, RefusesTensorsThatDoNotMatch) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  Workbench bench;
  const Tensor a = bench.Zeros({2}), b = bench.Zeros({3});
  EXPECT_DEATH(Compute(bench.ctx(), Add{.a = a, .b = b, .y = a}), "float32.2. . float32.3.");
  EXPECT_DEATH(Compute(bench.ctx(), Copy{.x = a, .y = bench.Ints({2}, {0, 0})}),
               "float32.2. to int32.2.");
}

}  // namespace
}  // namespace unipool
