// The ops of the router: scores, choice, gates, balance. All in float32.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "runtime/ops/router_scores.h"
#include "runtime/ops/sigmoid_router.h"
#include "runtime/ops/top_k.h"
#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
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

TEST(CudaRouter, SoftmaxScoresAgreeAlsoInPlace) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, experts] : kSizes) {
    Workbench bench;
    const Tensor z = bench.Random("z", {tokens, experts}, 3.0f);
    const Tensor s = bench.Poisoned({tokens, experts}), ds = bench.Random("ds", {tokens, experts});
    ExpectAgree(SoftmaxScoresForward{.logits = z, .scores = s});
    Compute(bench.ctx(), SoftmaxScoresForward{.logits = z, .scores = s});
    ExpectAgree(SoftmaxScoresBackward{
        .dscores = ds, .scores = s, .dlogits = bench.Poisoned({tokens, experts})});
    ExpectAgree(SoftmaxScoresBackward{.dscores = ds, .scores = s, .dlogits = ds});
    ExpectAgree(SoftmaxScoresForward{.logits = z, .scores = z});
  }
}

TEST(CudaRouter, NormScoresAgreeAlsoInPlaceAndForZeros) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, experts] : kSizes) {
    Workbench bench;
    const Tensor z = bench.Random("z", {tokens, experts}), scale = bench.Floats({1}, {1.5f});
    if (tokens > 3) std::fill_n(z.as<float>() + 3 * experts, experts, 0.0f);
    NormScoresBackward backward{.dscores = bench.Random("ds", {tokens, experts}),
                                .logits = z,
                                .scale = scale,
                                .c = 2.5f,
                                .eps = 1e-8f,
                                .dlogits = bench.Poisoned({tokens, experts}),
                                .dscale = bench.Floats({1}, {0.5f})};
    ExpectAgree(NormScoresForward{.logits = z,
                                  .scale = scale,
                                  .c = 2.5f,
                                  .eps = 1e-8f,
                                  .scores = bench.Poisoned({tokens, experts})});
    ExpectAgree(backward);
    backward.dlogits = backward.dscores;
    ExpectAgree(backward);
  }
}

TEST(CudaRouter, AWholeVocabularyIsChosenFrom) {
  SKIP_WITHOUT_GPU();
  constexpr int64_t kWords = 70001, kTokens = 3;
  Workbench bench;
  ExpectAgree(TopK{.scores = bench.Random("s", {kTokens, kWords}),
                   .bias = {},
                   .ids = bench.arena().New<int32_t>({kTokens, 1}),
                   .gates = bench.Poisoned({kTokens, 1}),
                   .counts = bench.Longs({kWords}, std::vector<int64_t>(kWords, 2))});
}

TEST(CudaRouter, SigmoidScoresAndNormalizedGatesAgree) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, experts] : kSizes) {
    Workbench bench;
    const Tensor s = bench.Poisoned({tokens, experts}), sums = bench.Poisoned({tokens});
    const Tensor ds = bench.Random("ds", {tokens, experts});
    ExpectAgree(
        SigmoidScoresForward{.logits = bench.Random("z", {tokens, experts}, 3.0f), .scores = s});
    std::copy_n(bench.Random("s", {tokens, experts}, 0.1f).as<float>(), s.numel(), s.as<float>());
    ExpectAgree(SigmoidScoresBackward{.dscores = ds, .scores = s, .dlogits = ds});
    const Tensor gates = bench.Copy(s);
    for (int64_t i = 0; i < s.numel(); ++i) gates.as<float>()[i] += 1;
    ExpectAgree(NormalizeGates{.gates = gates, .sums = sums});
    Compute(bench.ctx(), NormalizeGates{.gates = gates, .sums = sums});
    ExpectAgree(NormalizeGatesBackward{.gates = gates, .sums = sums, .dgates = ds});
  }
}

TEST(CudaRouter, TheBiasMovesTowardsTheMean) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  ExpectAgree(MoveRouterBias{.counts = bench.Longs({5}, {4, 9, 5, 0, 7}),
                             .rate = 0.25f,
                             .bias = bench.Random("bias", {5})});
}

// Scores with ties, both zeros, infinities and NaN.
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
      const TopK op{
          .scores = k == 4 ? bench.Random("s", {tokens, experts}) : Scores(bench, tokens, experts),
          .bias = Tensor{},
          .ids = bench.Ints({tokens, k}, std::vector<int32_t>(static_cast<size_t>(tokens * k))),
          .gates = bench.Zeros({tokens, k}),
          .counts = bench.Longs({experts}, std::vector<int64_t>(static_cast<size_t>(experts), 7))};
      ExpectAgree(op);
    }
  }
}

TEST(CudaRouter, ABiasEntersTheChoiceAlone) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  ExpectAgree(TopK{.scores = bench.Random("scores", {20, 9}),
                   .bias = bench.Random("bias", {9}),
                   .ids = bench.Ints({20, 2}, std::vector<int32_t>(40)),
                   .gates = bench.Poisoned({20, 2}),
                   .counts = bench.Longs({9}, std::vector<int64_t>(9))});
}

TEST(CudaRouter, ScoresGradientsAndSumsOverTokensAgree) {
  SKIP_WITHOUT_GPU();
  for (const auto [tokens, experts] : kSizes) {
    Workbench bench;
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < tokens * 3; ++i) ids.push_back(static_cast<int32_t>(i * i % experts));
    const Tensor gates = bench.Random("gates", {tokens, 3});
    ExpectAgree(ScoresGradient{.ids = bench.Ints({tokens, 3}, ids),
                               .dgates = gates,
                               .column = bench.Random("column", {experts}),
                               .dscores = bench.Poisoned({tokens, experts})});
    const Tensor sums = bench.arena().New<double>({experts});
    std::fill_n(sums.as<double>(), experts, 0.5);
    ExpectAgree(ColumnSums{.scores = bench.Random("scores", {tokens, experts}), .sums = sums});
    ExpectAgree(CountUnrouted{.gates = gates, .count = bench.Longs({1}, {3})});
  }
}

// So many that pieces are longer than they are meant to be.
TEST(CudaRouter, ColumnSumsOfManyTokensAgree) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  const Tensor sums = bench.arena().New<double>({3});
  std::fill_n(sums.as<double>(), 3, 0.5);
  ExpectAgree(ColumnSums{.scores = bench.Random("scores", {33001, 3}), .sums = sums});
}

}  // namespace
}  // namespace unipool::testing
