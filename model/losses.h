// The terms of the objective: next-token cross-entropy and the two balance losses. Each gives its
// value and the gradient that belongs to it. All are weighted by their share of the step's global
// batch, so that plain sums over micro-batches and ranks are the global objective (facts M.2).
#pragma once

#include <cstdint>
#include <vector>

#include "comm/load_statistics.h"
#include "model/linear.h"
#include "runtime/context.h"

namespace unipool {

// Contributions to the objective; balance losses include their coefficients.
struct LossSums {
  double cross_entropy = 0;
  double pool_balance = 0;
  double layer_balance = 0;
};

// Cross-entropy of logits = x head^T against targets, a chunk of tokens at a time so that
// [tokens, vocab] is never held. Every token weighs `scale`. Overwrites dx, adds to head's
// gradient, and returns the weighted sum. x, dx [tokens, hidden]; targets int32 [tokens].
double CrossEntropyAndGradient(Context& ctx, const Linear& head, Tensor x, Tensor targets,
                               float scale, Tensor dx);
// What is said of each token of an evaluation.
struct TokenResults {
  Tensor losses;  // out [tokens], nats
  // out int32 [tokens, 1]: the likeliest next token, the lowest id on a tie; absent if not asked
  // for
  Tensor likeliest = {};
};
void CrossEntropyOfTokens(Context& ctx, const Linear& head, Tensor x, Tensor targets,
                          const TokenResults& results);

// Balance over a layer's own choices, and over those of all layers that share a pool. With scores
// s, their mean P over the tokens of the global batch, E experts and N layers of the pool:
//   layer:  layer_coefficient * E * sum_e f_e P_e,      f: shares of this layer's choices
//   pool:   pool_coefficient * E / N * sum_e f_e P_e,   f: shares of all the pool's layers' choices
// (facts D.2, D.4). The shares are those of the previous step over all ranks and carry no gradient;
// in the first step there are none, and both losses are zero. Sums over layers are left to the
// caller: they have no further factor.
class BalanceLosses {
 public:
  // `statistics` is borrowed and outlives this.
  BalanceLosses(const LoadStatistics& statistics, double pool_coefficient,
                double layer_coefficient);

  // Takes the shares of the previous step; `total_tokens` of the global batch.
  void StartStep(int64_t total_tokens);
  // Adds the losses of one layer's scores [tokens, experts] to `sums`.
  void Add(Context& ctx, int layer, Tensor scores, LossSums* sums) const;
  // d(objective)/d(score of expert e), the same for every token: [experts]. Valid until StartStep.
  Tensor column(int layer) const;

 private:
  struct Layer {
    std::vector<double> pool_weights;   // [experts]
    std::vector<double> layer_weights;  // [experts]
    std::vector<float> column;          // their sum
  };

  const LoadStatistics& statistics_;
  double pool_coefficient_;
  double layer_coefficient_;
  std::vector<int> layers_of_pool_;
  std::vector<Layer> layers_;
};

}  // namespace unipool
