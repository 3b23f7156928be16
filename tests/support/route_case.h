// Routing for tests: a batch of tokens with what both ways need, and the formulas in double.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/ops/route_tokens.h"
#include "tests/support/workbench.h"

namespace unipool::testing {

inline constexpr ScoreKind kScoreKinds[] = {ScoreKind::kNorm, ScoreKind::kSoftmax,
                                            ScoreKind::kSigmoid};

struct RouteSize {
  int64_t tokens, experts, k;
  bool normalized = false;
  bool biased = false;
};

struct RouteCase {
  static constexpr int64_t kCounted = 3;  // what the counts start from

  RouteCase(Workbench& bench, ScoreKind kind_of_scores, const RouteSize& size_of_batch);

  RouteTokens Scoring() const;  // without ids
  RouteTokens Forward() const;
  RouteTokensBackward Backward() const;

  // Logits become multiples of a quarter, so that ties are common.
  void Coarsen();
  std::vector<double> ScoresInDouble(int64_t t) const;

  ScoreKind kind;
  RouteSize size;
  float c = 2.5f;
  float eps = 0.1f;
  Tensor logits, scale, bias, scores, ids, gates, gate_sums, counts;
  Tensor dgates, column, dlogits, dscale;
};

// Calls function(kind, size): no tokens, one, more than are worked on together; odd numbers of
// experts, and more than a GPU holds in registers; a choice of one, of some, of all.
void ForEachRouteSize(const std::function<void(ScoreKind, const RouteSize&)>& function);

}  // namespace unipool::testing
