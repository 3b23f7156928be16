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

enum class BalanceSource : uint8_t {
  kThisRank,      // the layer loss: this micro-batch's counts; the pool loss: the previous one's
  kPreviousStep,  // the counts of the previous step, all ranks and micro-batches
};

struct BalanceSettings {
  double pool_coefficient;
  double layer_coefficient;
  BalanceSource pool_source;
  BalanceSource layer_source;
};

// Balance over a layer's own choices, and over those of all layers that share a pool. With scores
// s, their mean P over the tokens of a micro-batch, E experts and N layers of the pool:
//   layer:  layer_coefficient * E * sum_e f_e P_e,      f: shares of this layer's choices
//   pool:   pool_coefficient * E / N * sum_e f_e P_e,   f: shares of all the pool's layers' choices
// (facts D.2, D.4, M.3), weighted by the micro-batch's part of the global batch. The shares come
// from where the settings say and carry no gradient; while there are none, the loss is zero. Sums
// over layers are left to the caller: they have no further factor.
class BalanceLosses {
 public:
  // `statistics` is borrowed and outlives this.
  BalanceLosses(const LoadStatistics& statistics, const BalanceSettings& settings);

  // Takes the shares of the previous step; `total_tokens` of the global batch.
  void StartStep(int64_t total_tokens);
  // Once the layer has counted its choices of this micro-batch: adds the losses of its scores
  // [tokens, experts] to `sums`.
  void Add(Context& ctx, int layer, Tensor scores, LossSums* sums);
  // d(objective)/d(score of expert e) in the micro-batch of the layer's last Add, the same for
  // every token: [experts].
  Tensor column(int layer) const;

 private:
  // d(loss)/d(score), each [experts].
  struct Layer {
    std::vector<double> pool_weights;
    std::vector<double> layer_weights;
    std::vector<float> column;  // their sum
  };

  bool has_step_shares(BalanceSource source) const {
    return source == BalanceSource::kPreviousStep && statistics_.has_previous();
  }
  void TakeMicroBatchShares(int layer);
  void Scale(double coefficient, std::vector<double>& weights) const;

  const LoadStatistics& statistics_;
  const BalanceSettings settings_;
  int64_t total_tokens_ = 0;
  std::vector<int> layers_of_pool_;
  std::vector<Layer> layers_;
};

}  // namespace unipool
