#include "tests/support/route_case.h"

#include <algorithm>
#include <cmath>

namespace unipool::testing {

RouteCase::RouteCase(Workbench& bench, ScoreKind kind_of_scores, const RouteSize& size_of_batch)
    : kind(kind_of_scores),
      size(size_of_batch),
      logits(bench.Random("z", {size.tokens, size.experts}, 2.0f)),
      scale(bench.Floats({1}, {1.3f})),
      bias(bench.Random("bias", {size.experts}, 0.1f)),
      scores(bench.Poisoned({size.tokens, size.experts})),
      ids(bench.Ints({size.tokens, size.k},
                     std::vector<int32_t>(static_cast<size_t>(size.tokens * size.k), -1))),
      gates(bench.Poisoned({size.tokens, size.k})),
      gate_sums(bench.Poisoned({size.tokens})),
      counts(bench.Longs({size.experts},
                         std::vector<int64_t>(static_cast<size_t>(size.experts), kCounted))),
      dgates(bench.Random("dg", {size.tokens, size.k})),
      score_gradient(bench.Random("column", {size.experts})),
      dlogits(bench.Poisoned({size.tokens, size.experts})),
      dscale(bench.Floats({1}, {0.5f})) {}

RouteTokens RouteCase::Scoring() const {
  return {.kind = kind,
          .c = c,
          .eps = eps,
          .logits = logits,
          .scale = kind == ScoreKind::kNorm ? scale : Tensor{},
          .bias = {},
          .scores = scores,
          .ids = {},
          .gates = {},
          .gate_sums = {},
          .counts = {}};
}

RouteTokens RouteCase::Forward() const {
  RouteTokens op = Scoring();
  op.bias = size.biased ? bias : Tensor{};
  op.ids = ids;
  op.gates = gates;
  op.gate_sums = size.normalized ? gate_sums : Tensor{};
  op.counts = counts;
  return op;
}

RouteTokensBackward RouteCase::Backward() const {
  const bool norm = kind == ScoreKind::kNorm;
  return {.kind = kind,
          .c = c,
          .eps = eps,
          .dgates = dgates,
          .score_gradient = score_gradient,
          .logits = norm ? logits : Tensor{},
          .scale = norm ? scale : Tensor{},
          .scores = norm ? Tensor{} : scores,
          .ids = ids,
          .gates = size.normalized ? gates : Tensor{},
          .gate_sums = size.normalized ? gate_sums : Tensor{},
          .dlogits = dlogits,
          .dscale = norm ? dscale : Tensor{}};
}

void RouteCase::Coarsen() {
  float* z = logits.as<float>();
  for (int64_t i = 0; i < logits.numel(); ++i) z[i] = std::round(z[i] * 4) / 4;
}

std::vector<double> RouteCase::ScoresInDouble(int64_t t) const {
  const float* z = logits.as<float>() + t * size.experts;
  std::vector<double> s(z, z + size.experts);
  double squares = 0, exponentials = 0;
  for (const double v : s) squares += v * v;
  for (const double v : s) exponentials += std::exp(v);
  const double factor = double{scale.as<float>()[0]} * double{c};
  for (double& v : s) {
    if (kind == ScoreKind::kNorm) v = factor * std::max(0.0, v) / (std::sqrt(squares) + eps);
    if (kind == ScoreKind::kSoftmax) v = std::exp(v) / exponentials;
    if (kind == ScoreKind::kSigmoid) v = 1 / (1 + std::exp(-v));
  }
  return s;
}

void ForEachRouteSize(const std::function<void(ScoreKind, const RouteSize&)>& function) {
  for (const ScoreKind kind : kScoreKinds) {
    for (const int64_t tokens : {0, 1, 11}) {
      for (const int64_t experts : {1, 7, 33, 96, 150, 288, 1000, 1025}) {
        for (const int64_t k : {int64_t{1}, std::min<int64_t>(experts, 3), experts}) {
          function(kind, {tokens, experts, k, false, false});
          function(kind, {tokens, experts, k, true, true});
        }
      }
    }
  }
}

}  // namespace unipool::testing
