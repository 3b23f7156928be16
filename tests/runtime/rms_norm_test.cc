#include "runtime/ops/rms_norm.h"

#include <gtest/gtest.h>

#include <cmath>

#include "runtime/ops/compute.h"
#include "tests/support/grad_check.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Dot;
using testing::ExpectGradient;
using testing::ExpectNear;
using testing::Workbench;

constexpr float kEps = 1e-5f;

TEST(RmsNorm, MatchesTheFormulaByHand) {
  Workbench bench;
  const Tensor x = bench.Floats({1, 2}, {3, 4});
  const Tensor weight = bench.Floats({2}, {1, 10});
  const Tensor y = bench.Poisoned({1, 2}), rstd = bench.Poisoned({1});
  Compute(bench.ctx(), RmsNormForward{.x = x, .weight = weight, .eps = 0, .y = y, .rstd = rstd});
  const float expected = 1.0f / std::sqrt(12.5f);
  ExpectNear(rstd, bench.Floats({1}, {expected}), 1e-6);
  ExpectNear(y, bench.Floats({1, 2}, {3 * expected, 40 * expected}), 1e-5);
}

TEST(RmsNorm, GradientsMatchFiniteDifferences) {
  Workbench bench;
  const Tensor x = bench.Random("x", {5, 70}), weight = bench.Random("weight", {70});
  const Tensor dy = bench.Random("dy", {5, 70});
  const Tensor y = bench.Poisoned({5, 70}), rstd = bench.Poisoned({5});
  const Tensor dx = bench.Poisoned({5, 70}), dweight = bench.Zeros({70});
  const auto loss = [&] {
    Compute(bench.ctx(),
            RmsNormForward{.x = x, .weight = weight, .eps = kEps, .y = y, .rstd = rstd});
    return Dot(y, dy);
  };
  loss();
  Compute(bench.ctx(), RmsNormBackward{.dy = dy,
                                       .x = x,
                                       .weight = weight,
                                       .rstd = rstd,
                                       .dx = dx,
                                       .dweight = dweight,
                                       .add_to_dx = false});
  ExpectGradient(x, dx, loss);
  ExpectGradient(weight, dweight, loss);
}

TEST(RmsNorm, BackwardAddsToParameterAndResidualGradients) {
  Workbench bench;
  const Tensor x = bench.Random("x", {3, 8}), weight = bench.Random("weight", {8});
  const Tensor dy = bench.Random("dy", {3, 8}), rstd = bench.Random("rstd", {3});
  const Tensor dx = bench.Poisoned({3, 8}), dweight = bench.Zeros({8});
  RmsNormBackward op{.dy = dy,
                     .x = x,
                     .weight = weight,
                     .rstd = rstd,
                     .dx = dx,
                     .dweight = dweight,
                     .add_to_dx = false};
  Compute(bench.ctx(), op);
  const Tensor once_dx = bench.Copy(dx), once_dweight = bench.Copy(dweight);
  op.add_to_dx = true;
  Compute(bench.ctx(), op);
  for (int64_t i = 0; i < 24; ++i) EXPECT_NEAR(dx.as<float>()[i], 2 * once_dx.as<float>()[i], 1e-5);
  for (int64_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(dweight.as<float>()[i], 2 * once_dweight.as<float>()[i], 1e-5);
  }
}

TEST(RmsNorm, ARowWhoseSquaresOverflowGivesNan) {
  Workbench bench;
  const Tensor x = bench.Floats({1, 2}, {3e30f, 1}), weight = bench.Floats({2}, {1, 1});
  const Tensor y = bench.Zeros({1, 2}), rstd = bench.Zeros({1});
  Compute(bench.ctx(), RmsNormForward{.x = x, .weight = weight, .eps = kEps, .y = y, .rstd = rstd});
  EXPECT_TRUE(std::isnan(y.as<float>()[0]));
}

}  // namespace
}  // namespace unipool
