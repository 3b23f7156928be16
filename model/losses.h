// The terms of the objective: next-token cross-entropy and the two balance losses. Each gives its
// value and the gradient that belongs to it. All are weighted by their share of the step's global
// batch, so that plain sums over micro-batches and ranks are the global objective
// (model/method.md#loss-scaling).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "comm/load_statistics.h"
#include "model/linear.h"
#include "runtime/buffer.h"
#include "runtime/context.h"
#include "runtime/mirrored_tensor.h"

namespace unipool {

// Contributions to the objective, summed up where the ops run and read by the host once a step.
// Move-only.
class LossSums {
 public:
  // Balance losses include their coefficients.
  struct Values {
    double cross_entropy = 0;
    double pool_balance = 0;
    double layer_balance = 0;
  };

  // Zero. RESOURCE_EXHAUSTED when the system refuses the memory.
  static absl::StatusOr<LossSums> Create(Device device);
  LossSums() = default;  // holds nothing

  void Clear(Context& ctx);
  // After all work enqueued so far on `stream`; waits for it.
  Values Read(Stream& stream);

  Tensor cross_entropy() const { return sums_.on_device().Rows(0, 1); }  // float64 [1]
  Tensor balance() const { return sums_.on_device().Rows(1, 3); }        // float64 [2]: pool, layer

 private:
  MirroredTensor sums_;
};

// Tokens whose logits CrossEntropyAndGradient holds at a time. On a CPU, products run at full rate
// and logits stay in a shared cache; on a GPU, each chunk reads and writes the head's gradient.
int64_t CrossEntropyChunk(DeviceType device);

// Cross-entropy of logits = x head^T against targets, a chunk of tokens at a time so that
// [tokens, vocab] is never held. Every token weighs `scale`. Overwrites dx, adds to head's
// gradient, and adds the weighted sum to `sum`, float64 [1]. x, dx [tokens, hidden]; targets int32
// [tokens].
void CrossEntropyAndGradient(Context& ctx, const Linear& head, Tensor x, Tensor targets,
                             float scale, Tensor dx, Tensor sum);
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
// (model/method.md#layer-loss, model/method.md#pool-loss, model/method.md#statistics), weighted by
// the micro-batch's part of the global batch. The shares come from where the settings say and carry
// no gradient; while there are none, the loss is zero. Sums over layers are left to the caller:
// they have no further factor.
class BalanceLosses {
 public:
  // `statistics` is borrowed and outlives this; its device is where the losses are.
  static absl::StatusOr<std::unique_ptr<BalanceLosses>> Create(const LoadStatistics& statistics,
                                                               const BalanceSettings& settings);

  // Takes the shares of the previous step; `total_tokens` of the global batch.
  void StartStep(Context& ctx, int64_t total_tokens);
  // Once the layer has counted its choices of this micro-batch: adds the losses of its scores
  // [tokens, experts] to `sums`.
  void Add(Context& ctx, int layer, Tensor scores, const LossSums& sums);
  // d(objective)/d(score of expert e) in the micro-batch of the layer's last Add, the same for
  // every token: [experts].
  Tensor column(int layer) const;

 private:
  BalanceLosses(const LoadStatistics& statistics, const BalanceSettings& settings);
  bool has_step_shares(BalanceSource source) const {
    return source == BalanceSource::kPreviousStep && statistics_.has_previous();
  }
  void WriteStepWeights(int layer, absl::Span<double> pool, absl::Span<double> own) const;
  void TakeMicroBatchShares(Context& ctx, int layer);
  // From an expert's share to the derivative by one score.
  double PoolFactor(int layer) const;
  double LayerFactor(int layer) const;
  // d(loss)/d(score) of the pool's loss and of the layer's: float64 [2, experts].
  Tensor Weights(int layer) const;

  const LoadStatistics& statistics_;
  const BalanceSettings settings_;
  int64_t total_tokens_ = 0;
  std::vector<int> layers_of_pool_;
  std::vector<int64_t> first_;  // experts of the layers below; and, last, of all layers
  MirroredTensor weights_;      // of all layers
  Buffer columns_;              // the sums of the two losses' weights: float32, of all layers
};

}  // namespace unipool
