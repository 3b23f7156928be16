#include "runtime/ops/router_scores.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

#include "runtime/ops/compute.h"
#include "tests/support/grad_check.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Dot;
using testing::ExpectGradient;
using testing::ExpectNear;
using testing::ToVector;
using testing::Workbench;

TEST(SoftmaxScores, MatchTheFormulaByHandAndInPlace) {
  Workbench bench;
  const Tensor z = bench.Floats({2, 2}, {0, std::log(3.0f), 5, 5}), s = bench.Poisoned({2, 2});
  Compute(bench.ctx(), SoftmaxScoresForward{.logits = z, .scores = s});
  ExpectNear(s, bench.Floats({2, 2}, {0.25f, 0.75f, 0.5f, 0.5f}), 1e-6);
  Compute(bench.ctx(), SoftmaxScoresForward{.logits = z, .scores = z});
  EXPECT_EQ(ToVector(z), ToVector(s));
}

TEST(SoftmaxScores, GradientMatchesFiniteDifferences) {
  Workbench bench;
  const Tensor z = bench.Random("z", {4, 13}), ds = bench.Random("ds", {4, 13});
  const Tensor s = bench.Poisoned({4, 13}), dz = bench.Poisoned({4, 13});
  const auto loss = [&] {
    Compute(bench.ctx(), SoftmaxScoresForward{.logits = z, .scores = s});
    return Dot(s, ds);
  };
  loss();
  Compute(bench.ctx(), SoftmaxScoresBackward{.dscores = ds, .scores = s, .dlogits = dz});
  const Tensor in_place = bench.Copy(ds);
  Compute(bench.ctx(),
          SoftmaxScoresBackward{.dscores = in_place, .scores = s, .dlogits = in_place});
  EXPECT_EQ(ToVector(in_place), ToVector(dz));
  ExpectGradient(z, dz, loss, {.tolerance = 1e-3});
}

TEST(NormScores, MatchTheFormulaByHand) {
  Workbench bench;
  const Tensor z = bench.Floats({1, 3}, {3, -4, 0}), s = bench.Poisoned({1, 3});
  Compute(bench.ctx(),
          NormScoresForward{
              .logits = z, .scale = bench.Floats({1}, {2}), .c = 3, .eps = 1, .scores = s});
  ExpectNear(s, bench.Floats({1, 3}, {2 * 3 * 3.0f / 6.0f, 0, 0}), 1e-6);
}

struct NormCase {
  explicit NormCase(Workbench& bench, int64_t tokens, int64_t experts)
      : z(bench.Random("z", {tokens, experts})),
        ds(bench.Random("ds", {tokens, experts})),
        scale(bench.Floats({1}, {1.3f})),
        s(bench.Poisoned({tokens, experts})),
        dz(bench.Poisoned({tokens, experts})),
        dscale(bench.Zeros({1})) {}

  NormScoresForward Forward() const {
    return {.logits = z, .scale = scale, .c = 2.5f, .eps = eps, .scores = s};
  }
  NormScoresBackward Backward() const {
    return {.dscores = ds,
            .logits = z,
            .scale = scale,
            .c = 2.5f,
            .eps = eps,
            .dlogits = dz,
            .dscale = dscale};
  }

  float eps = 0.1f;
  Tensor z, ds, scale, s, dz, dscale;
};

TEST(NormScores, GradientsMatchFiniteDifferences) {
  Workbench bench;
  NormCase test(bench, 3, 21);
  // Away from the corner of max(0, z), where a difference is no derivative.
  for (int64_t i = 0; i < 63; ++i)
    test.z.as<float>()[i] += test.z.as<float>()[i] > 0 ? 0.1f : -0.1f;
  const auto loss = [&] {
    Compute(bench.ctx(), test.Forward());
    return Dot(test.s, test.ds);
  };
  Compute(bench.ctx(), test.Backward());
  ExpectGradient(test.z, test.dz, loss, {.tolerance = 2e-3});
  ExpectGradient(test.scale, test.dscale, loss, {.tolerance = 1e-3});
}

TEST(NormScores, BackwardWorksInPlaceAndAddsToTheScaleGradient) {
  Workbench bench;
  NormCase test(bench, 5, 9);
  Compute(bench.ctx(), test.Backward());
  const Tensor dz = bench.Copy(test.dz), once = bench.Copy(test.dscale);
  test.dz = test.ds;
  Compute(bench.ctx(), test.Backward());
  EXPECT_EQ(ToVector(test.ds), ToVector(dz));
  EXPECT_EQ(test.dscale.as<float>()[0], 2 * once.as<float>()[0]);
}

TEST(NormScores, RowOfZerosGivesExactZerosEvenWithoutEps) {
  Workbench bench;
  NormCase test(bench, 2, 11);
  test.eps = 0;
  std::fill_n(test.z.as<float>(), 11, 0.0f);
  Compute(bench.ctx(), test.Forward());
  Compute(bench.ctx(), test.Backward());
  EXPECT_EQ(ToVector(test.s.Rows(0, 1)), std::vector<float>(11, 0.0f));
  EXPECT_EQ(ToVector(test.dz.Rows(0, 1)), std::vector<float>(11, 0.0f));
  EXPECT_TRUE(std::isfinite(test.dscale.as<float>()[0]));
  EXPECT_NE(test.dscale.as<float>()[0], 0);
}

TEST(NormScores, DoNotDependOnTheSizeOfTheLogits) {
  Workbench bench;
  NormCase test(bench, 1, 16);
  test.eps = 0;
  Compute(bench.ctx(), test.Forward());
  const Tensor expected = bench.Copy(test.s);
  for (const float factor : {0x1p-90f, 0x1p90f}) {
    for (int64_t i = 0; i < 16; ++i) test.z.as<float>()[i] *= factor;
    Compute(bench.ctx(), test.Forward());
    ExpectNear(test.s, expected, 0, 1e-6);
    for (int64_t i = 0; i < 16; ++i) test.z.as<float>()[i] /= factor;
  }
}

TEST(NormScores, ScaleGradientHasTheSameBitsOnAnyNumberOfThreads) {
  Workbench bench;
  NormCase test(bench, 333, 24);
  std::vector<float> seen;
  for (const int threads : {1, 2, 3, 7}) {
    test.dscale.as<float>()[0] = 0;
    omp_set_num_threads(threads);
    Compute(bench.ctx(), test.Backward());
    seen.push_back(test.dscale.as<float>()[0]);
  }
  omp_set_num_threads(omp_get_num_procs());
  EXPECT_EQ(seen, std::vector<float>(4, seen[0]));
}

TEST(NormScores, NanStaysInItsRow) {
  Workbench bench;
  NormCase test(bench, 2, 10);
  test.z.as<float>()[3] = NAN;
  Compute(bench.ctx(), test.Forward());
  for (int64_t e = 0; e < 10; ++e) {
    EXPECT_TRUE(std::isnan(test.s.as<float>()[e]));
    EXPECT_TRUE(std::isfinite(test.s.as<float>()[10 + e]));
  }
}

}  // namespace
}  // namespace unipool
