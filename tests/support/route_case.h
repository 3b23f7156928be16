// Routing test case: tensors of forward and backward for a batch of tokens, and the formulas in
// double.
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
  static constexpr int64_t kCounted = 3;  // initial value of each count

  RouteCase(Workbench& bench, ScoreKind kind_of_scores, const RouteSize& size_of_batch);

  RouteTokens Scoring() const;  // scores only, without ids
  RouteTokens Forward() const;
  RouteTokensBackward Backward() const;

  // Rounds the logits to multiples of 1/4, so that ties are common.
  void Coarsen();
  std::vector<double> ScoresInDouble(int64_t t) const;

  ScoreKind kind;
  RouteSize size;
  float c = 2.5f;
  float eps = 0.1f;
  Tensor logits, scale, bias, scores, ids, gates, gate_sums, counts;
  Tensor dgates, score_gradient, dlogits, dscale;
};

// Calls function(kind, size) for 0, 1 and several tokens (more than are processed together), odd
// numbers of experts and more than a GPU holds in registers, and k = 1, some, and all experts.
void ForEachRouteSize(const std::function<void(ScoreKind, const RouteSize&)>& function);

}  // namespace unipool::testing
