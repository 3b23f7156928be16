#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/ops/compute.h"
#include "runtime/ops/route_tokens.h"
#include "tests/support/grad_check.h"
#include "tests/support/route_case.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Dot;
using testing::ExpectGradient;
using testing::ForEachRouteSize;
using testing::kScoreKinds;
using testing::RouteCase;
using testing::RouteSize;
using testing::ToVector;
using testing::Workbench;

// A loss of the gates and scores whose gradients are dgates and score_gradient.
double Loss(Workbench& bench, const RouteCase& test) {
  Compute(bench.ctx(), test.Forward());
  double loss = Dot(test.gates, test.dgates);
  for (int64_t i = 0; i < test.scores.numel(); ++i) {
    loss += double{test.scores.as<float>()[i]} *
            double{test.score_gradient.as<float>()[i % test.size.experts]};
  }
  return loss;
}

// Spaces the logits of a row by at least 0.2 and keeps them 0.1 away from zero, so that a finite
// difference changes no choice and does not cross the kink of max(0, z).
void Spread(const RouteCase& test) {
  const int64_t experts = test.size.experts;
  for (int64_t i = 0; i < test.logits.numel(); ++i) {
    const int64_t t = i / experts, rank = (i % experts * 5 + t * 3) % experts;
    test.logits.as<float>()[i] = 0.2f * static_cast<float>(rank) - 0.1f * (experts - 1);
  }
}

TEST(RouteTokensBackward, MatchesFiniteDifferencesOfTheForward) {
  for (const ScoreKind kind : kScoreKinds) {
    for (const bool normalized : {false, true}) {
      Workbench bench;
      RouteCase test(
          bench, kind,
          {.tokens = 4, .experts = 12, .k = 3, .normalized = normalized, .biased = false});
      Spread(test);
      Loss(bench, test);
      test.dscale.as<float>()[0] = 0;
      Compute(bench.ctx(), test.Backward());
      const auto loss = [&] { return Loss(bench, test); };
      ExpectGradient(test.logits, test.dlogits, loss, {.tolerance = 1e-3});
      if (kind != ScoreKind::kNorm) continue;
      ExpectGradient(test.scale, test.dscale, loss, {.tolerance = 1e-3});
    }
  }
}

std::vector<double> DscoresInDouble(const RouteCase& test, int64_t t) {
  const int64_t k = test.size.k;
  const float* dgates = test.dgates.as<float>() + t * k;
  const float* gates = test.gates.as<float>() + t * k;
  std::vector<double> ds(test.score_gradient.as<float>(),
                         test.score_gradient.as<float>() + test.size.experts);
  double dot = 0, sum = 1;
  for (int64_t j = 0; j < k && test.size.normalized; ++j) dot += double{gates[j]} * dgates[j];
  if (test.size.normalized) sum = double{test.gate_sums.as<float>()[t]};
  for (int64_t j = 0; j < k; ++j) {
    ds[static_cast<size_t>(test.ids.as<int32_t>()[t * k + j])] += (double{dgates[j]} - dot) / sum;
  }
  return ds;
}

// Replaces ds by the gradient of the token's logits; returns its contribution to dscale.
double ThroughNorm(const RouteCase& test, int64_t t, std::vector<double>& ds) {
  const float* z = test.logits.as<float>() + t * test.size.experts;
  double squares = 0, dot = 0;
  for (size_t e = 0; e < ds.size(); ++e) squares += double{z[e]} * double{z[e]};
  for (size_t e = 0; e < ds.size(); ++e) dot += ds[e] * std::max(0.0, double{z[e]});
  const double n = std::sqrt(squares), whole = n + double{test.eps};
  const double factor = double{test.scale.as<float>()[0]} * double{test.c};
  for (size_t e = 0; e < ds.size(); ++e) {
    const double direct = z[e] > 0 ? ds[e] / whole : 0;
    ds[e] = n == 0 ? 0 : factor * (direct - double{z[e]} / (n * whole * whole) * dot);
  }
  return double{test.c} * dot / whole;
}

void ThroughOthers(const RouteCase& test, int64_t t, std::vector<double>& ds) {
  const float* s = test.scores.as<float>() + t * test.size.experts;
  double dot = 0;
  for (size_t e = 0; e < ds.size(); ++e) dot += double{s[e]} * ds[e];
  for (size_t e = 0; e < ds.size(); ++e) {
    const bool softmax = test.kind == ScoreKind::kSoftmax;
    ds[e] = double{s[e]} * (softmax ? ds[e] - dot : ds[e] * (1 - double{s[e]}));
  }
}

// Checks one token; returns its contribution to dscale.
double ExpectDlogits(const RouteCase& test, int64_t t) {
  std::vector<double> expected = DscoresInDouble(test, t);
  double largest = 0, dscale = 0;
  for (const double ds : expected) largest = std::max(largest, std::abs(ds));
  if (test.kind == ScoreKind::kNorm) {
    dscale = ThroughNorm(test, t, expected);
  } else {
    ThroughOthers(test, t, expected);
  }
  const float* actual = test.dlogits.as<float>() + t * test.size.experts;
  for (size_t e = 0; e < expected.size(); ++e) {
    EXPECT_NEAR(double{actual[e]}, expected[e], 3e-6 * (1 + largest)) << expected.size();
  }
  return dscale;
}

TEST(RouteTokensBackward, AgreesWithDoublesAtAllSizes) {
  ForEachRouteSize([](ScoreKind kind, const RouteSize& size) {
    Workbench bench;
    RouteCase test(bench, kind, size);
    Compute(bench.ctx(), test.Forward());
    Compute(bench.ctx(), test.Backward());
    double dscale = 0.5;
    for (int64_t t = 0; t < size.tokens; ++t) dscale += ExpectDlogits(test, t);
    ASSERT_NEAR(double{test.dscale.as<float>()[0]}, dscale, 1e-5 * (1 + std::abs(dscale)));
  });
}

// Scores are 1/2, so the slope of the sigmoid is 1/4.
TEST(RouteTokensBackward, AddsGateGradientsToTheScoreGradient) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kSigmoid, {.tokens = 2, .experts = 3, .k = 2});
  std::fill_n(test.scores.as<float>(), 6, 0.5f);
  test.ids = bench.Ints({2, 2}, {2, 0, 1, 2});
  test.dgates = bench.Floats({2, 2}, {10, 20, 30, 40});
  test.score_gradient = bench.Floats({3}, {1, 2, 3});
  Compute(bench.ctx(), test.Backward());
  EXPECT_EQ(ToVector(test.dlogits),
            (std::vector<float>{21 / 4.0f, 2 / 4.0f, 13 / 4.0f, 1 / 4.0f, 32 / 4.0f, 43 / 4.0f}));
  EXPECT_EQ(ToVector(test.dgates), (std::vector<float>{10, 20, 30, 40}));
}

TEST(RouteTokensBackward, AddsToTheScaleGradientAndOverwritesTheLogits) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kNorm, {.tokens = 5, .experts = 9, .k = 2});
  test.dscale = bench.Zeros({1});
  Compute(bench.ctx(), test.Forward());
  Compute(bench.ctx(), test.Backward());
  const Tensor dlogits = bench.Copy(test.dlogits), once = bench.Copy(test.dscale);
  Compute(bench.ctx(), test.Backward());
  EXPECT_EQ(ToVector(test.dlogits), ToVector(dlogits));
  EXPECT_EQ(test.dscale.as<float>()[0], 2 * once.as<float>()[0]);
}

TEST(RouteTokensBackward, RowOfZerosGivesExactZerosEvenWithoutEps) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kNorm, {.tokens = 2, .experts = 11, .k = 1});
  test.eps = 0;
  test.dscale = bench.Zeros({1});
  std::fill_n(test.logits.as<float>(), 11, 0.0f);
  Compute(bench.ctx(), test.Forward());
  Compute(bench.ctx(), test.Backward());
  EXPECT_EQ(ToVector(test.dlogits.Rows(0, 1)), std::vector<float>(11, 0.0f));
  EXPECT_TRUE(std::isfinite(test.dscale.as<float>()[0]));
  EXPECT_NE(test.dscale.as<float>()[0], 0);
}

TEST(RouteTokensBackward, HasTheSameBitsOnAnyNumberOfThreads) {
  for (const ScoreKind kind : kScoreKinds) {
    Workbench bench;
    RouteCase test(bench, kind, {.tokens = 333, .experts = 24, .k = 2});
    Compute(bench.ctx(), test.Forward());
    std::vector<float> scales;
    std::vector<std::vector<float>> logits;
    for (const int threads : {1, 2, 3, 7}) {
      test.dscale.as<float>()[0] = 0;
      omp_set_num_threads(threads);
      Compute(bench.ctx(), test.Backward());
      scales.push_back(test.dscale.as<float>()[0]);
      logits.push_back(ToVector(test.dlogits));
    }
    omp_set_num_threads(omp_get_num_procs());
    EXPECT_EQ(scales, std::vector<float>(4, scales[0]));
    for (const auto& of_threads : logits) EXPECT_EQ(of_threads, logits[0]);
  }
}

TEST(RouteTokensBackwardDeathTest, AnIdOutOfRangeAborts) {
  Workbench bench;
  RouteCase test(bench, ScoreKind::kSigmoid, {.tokens = 2, .experts = 3, .k = 1});
  Compute(bench.ctx(), test.Forward());
  test.ids.as<int32_t>()[1] = 3;
  EXPECT_DEATH(Compute(bench.ctx(), test.Backward()), "route_tokens_backward");
}

}  // namespace
}  // namespace unipool
