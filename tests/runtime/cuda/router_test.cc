// Router ops: scores, choice, gates, balance. All in float32.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/ops/route_tokens.h"
#include "runtime/ops/router_bias.h"
#include "runtime/ops/top_k.h"
#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/route_case.h"
#include "tests/support/workbench.h"

namespace unipool::testing {
namespace {

template <typename Op>
void ExpectAgree(const Op& op) {
  ExpectOnBothDevices(op, {}, {.bfloat16 = false});
}

struct Size {
  int64_t tokens, experts;
};
constexpr Size kSizes[] = {{0, 4}, {1, 1}, {5, 7}, {70, 96}, {300, 33}};

// Sets logits that either are equal or differ by more than the exponentials of the two devices do.
void Part(const RouteCase& test) {
  const int64_t experts = test.size.experts;
  for (int64_t i = 0; i < test.logits.numel(); ++i) {
    const int64_t step = (i % experts * 37 + i / experts * 11) % experts / 2 * 2;
    test.logits.as<float>()[i] = 8.0f * static_cast<float>(step) / experts - 4.0f;
  }
}

TEST(CudaRouter, RoutesAgreeAtAllSizesAndScoresAlone) {
  SKIP_WITHOUT_GPU();
  ForEachRouteSize([](ScoreKind kind, const RouteSize& size) {
    Workbench bench;
    RouteCase test(bench, kind, size);
    Part(test);
    ExpectAgree(test.Forward());
    if (size.k == 1) ExpectAgree(test.Scoring());
  });
}

TEST(CudaRouter, RoutesOfMoreTokensThanTheGridHasWarpsAgree) {
  SKIP_WITHOUT_GPU();
  for (const ScoreKind kind : kScoreKinds) {
    Workbench bench;
    const RouteCase test(
        bench, kind, {.tokens = 9000, .experts = 5, .k = 2, .normalized = true, .biased = false});
    Part(test);
    ExpectAgree(test.Forward());
    Compute(bench.ctx(), test.Forward());
    ExpectAgree(test.Backward());
  }
}

TEST(CudaRouter, ScoresInPlaceAgree) {
  SKIP_WITHOUT_GPU();
  for (const ScoreKind kind : {ScoreKind::kSoftmax, ScoreKind::kSigmoid}) {
    for (const int64_t experts : {7, 96, 1025}) {
      Workbench bench;
      RouteCase test(bench, kind, {.tokens = 5, .experts = experts, .k = 2});
      Part(test);
      test.scores = test.logits;
      ExpectAgree(test.Forward());
    }
  }
}

// Rows of zeros, without a positive logit, and with a NaN, in registers and in memory.
TEST(CudaRouter, RoutesOfOddRowsAgree) {
  SKIP_WITHOUT_GPU();
  for (const int64_t experts : {7, 96, 1025}) {
    for (const bool normalized : {false, true}) {
      Workbench bench;
      RouteCase test(bench, ScoreKind::kNorm,
                     {.tokens = 4, .experts = experts, .k = 3, .normalized = normalized});
      float* z = test.logits.as<float>();
      std::fill_n(z, experts, 0.0f);
      std::fill_n(z + experts, experts, -1.0f);
      z[3 * experts - 1] = NAN;
      test.eps = 0;
      ExpectAgree(test.Forward());
      Compute(bench.ctx(), test.Forward());
      ExpectAgree(test.Backward());
    }
  }
}

TEST(CudaRouter, GradientsAgreeAtAllSizes) {
  SKIP_WITHOUT_GPU();
  ForEachRouteSize([](ScoreKind kind, const RouteSize& size) {
    Workbench bench;
    RouteCase test(bench, kind, size);
    Compute(bench.ctx(), test.Forward());
    ExpectAgree(test.Backward());
  });
}

TEST(CudaRouter, AWholeVocabularyIsChosenFrom) {
  SKIP_WITHOUT_GPU();
  constexpr int64_t kWords = 70001, kTokens = 3;
  Workbench bench;
  ExpectAgree(TopK{.scores = bench.Random("s", {kTokens, kWords}),
                   .ids = bench.arena().New<int32_t>({kTokens, 1}),
                   .values = bench.Poisoned({kTokens, 1})});
}

TEST(CudaRouter, TheBiasMovesTowardsTheMean) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  ExpectAgree(MoveRouterBias{.counts = bench.Longs({5}, {4, 9, 5, 0, 7}),
                             .rate = 0.25f,
                             .bias = bench.Random("bias", {5})});
}

// Scores with ties, zeros of both signs, infinities and NaN.
Tensor Scores(Workbench& bench, int64_t tokens, int64_t experts) {
  const Tensor scores = bench.Random("scores", {tokens, experts});
  constexpr float kOdd[] = {0.0f, -0.0f, 1.0f, 1.0f, INFINITY, -INFINITY, NAN, -NAN};
  for (int64_t i = 0; i < scores.numel(); i += 3) scores.as<float>()[i] = kOdd[i / 3 % 8];
  return scores;
}

TEST(CudaRouter, ChoicesAreTheSame) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, experts] : kSizes) {
    for (const int64_t k : {int64_t{1}, std::min<int64_t>(experts, 4), experts}) {
      Workbench bench;
      ExpectAgree(TopK{
          .scores = k == 4 ? bench.Random("s", {tokens, experts}) : Scores(bench, tokens, experts),
          .ids = bench.Ints({tokens, k}, std::vector<int32_t>(static_cast<size_t>(tokens * k))),
          .values = bench.Zeros({tokens, k})});
    }
  }
}

TEST(CudaRouter, SumsOverTokensAgree) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, experts] : kSizes) {
    Workbench bench;
    const Tensor sums = bench.arena().New<double>({experts});
    std::fill_n(sums.as<double>(), experts, 0.5);
    ExpectAgree(ColumnSums{.scores = bench.Random("scores", {tokens, experts}), .sums = sums});
  }
}

TEST(CudaRouter, UnroutedTokensAndChoicesAgree) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, experts] : kSizes) {
    Workbench bench;
    const Tensor gates = bench.Random("gates", {tokens, 3});
    std::vector<int32_t> ids(static_cast<size_t>(tokens * 3));
    for (size_t i = 0; i < ids.size(); ++i) {
      ids[i] = static_cast<int32_t>(i % 5 == 0 ? 0 : i * i % static_cast<size_t>(experts));
      if (i % 4 < 2) gates.as<float>()[i] = i % 3 == 0 ? -0.0f : 0.0f;
    }
    ExpectAgree(CountUnrouted{.ids = bench.Ints({tokens, 3}, ids),
                              .gates = gates,
                              .tokens = bench.Longs({1}, {3}),
                              .choices = bench.Longs({experts}, std::vector<int64_t>(experts, 5))});
  }
}

// More tokens than kMaxPieces pieces of the default size hold.
TEST(CudaRouter, ColumnSumsOfManyTokensAgree) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  const Tensor sums = bench.arena().New<double>({3});
  std::fill_n(sums.as<double>(), 3, 0.5);
  ExpectAgree(ColumnSums{.scores = bench.Random("scores", {33001, 3}), .sums = sums});
}

}  // namespace
}  // namespace unipool::testing
