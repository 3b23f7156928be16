// The terms of the objective: next-token cross-entropy and the two balance losses. Each computes
// its value and its gradient. All are weighted by their share of the step's global batch, so that
// plain sums over micro-batches and ranks give the global objective (model/method.md#loss-scaling).
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

// Sums of the contributions to the objective, on the device of the ops; the host reads them once a
// step. Move-only.
class LossSums {
 public:
  // Balance losses include their coefficients.
  struct Values {
    double cross_entropy = 0;
    double pool_balance = 0;
    double layer_balance = 0;
  };

  // The sums start at zero. RESOURCE_EXHAUSTED if the memory cannot be allocated.
  static absl::StatusOr<LossSums> Create(Device device);
  LossSums() = default;  // empty; only assignment is valid

  void Clear(Context& ctx);
  // Waits for all work enqueued so far on `stream` and returns the sums.
  Values Read(Stream& stream);

  Tensor cross_entropy() const { return sums_.on_device().Rows(0, 1); }  // float64 [1]
  Tensor balance() const { return sums_.on_device().Rows(1, 3); }        // float64 [2]: pool, layer

 private:
  MirroredTensor sums_;
};

// Number of tokens whose logits CrossEntropyAndGradient holds at a time. On a CPU it is large
// enough for products at full speed and small enough for the logits to stay in a shared cache; on a
// GPU it is larger, because each chunk reads and writes the gradient of the head.
int64_t CrossEntropyChunk(DeviceType device);

struct CrossEntropyArgs {
  Tensor x;        // [tokens, hidden]
  Tensor targets;  // int32 [tokens]
  float scale;     // weight of every token
  Tensor dx;       // out [tokens, hidden], overwritten
  Tensor sum;      // in/out float64 [1]: the weighted sum of the losses is added
};
// Cross-entropy of logits = x head^T against targets, one chunk of tokens at a time, so that the
// logits of all tokens are never in memory together. Adds to the gradient of `head`.
void CrossEntropyAndGradient(Context& ctx, const Linear& head, const CrossEntropyArgs& args);

// Results of an evaluation, by token.
struct TokenResults {
  Tensor losses;  // out [tokens], nats
  // out int32 [tokens, 1]: the most likely next token, the lowest id on a tie. Optional.
  Tensor likeliest = {};
};
struct TokenLossArgs {
  Tensor x;        // [tokens, hidden]
  Tensor targets;  // int32 [tokens]
  TokenResults results;
};
// Cross-entropy of each token, without gradients.
void CrossEntropyOfTokens(Context& ctx, const Linear& head, const TokenLossArgs& args);

// The choices from which a balance loss computes its shares.
enum class BalanceSource : uint8_t {
  kThisRank,      // layer loss: of this micro-batch on this rank; pool loss: of the previous one
  kPreviousStep,  // of the previous step, all ranks and micro-batches
};

struct BalanceSettings {
  double pool_coefficient;
  double layer_coefficient;
  BalanceSource pool_source;
  BalanceSource layer_source;
};

// Balance losses over a layer's own choices and over the choices of all layers that share a pool.
// With scores s, their mean P over the tokens of a micro-batch, E experts and N layers of the pool:
//   layer:  layer_coefficient * E * sum_e f_e P_e,      f: shares of this layer's choices
//   pool:   pool_coefficient * E / N * sum_e f_e P_e,   f: shares of all the pool's layers' choices
// (model/method.md#layer-loss, model/method.md#pool-loss, model/method.md#statistics), weighted by
// the micro-batch's share of the global batch. BalanceSource selects the choices; the shares carry
// no gradient, and a loss is zero as long as its choices do not exist. The losses of several layers
// are added without a further factor.
class BalanceLosses {
 public:
  // `statistics` is borrowed and outlives this; the losses are on its device.
  static absl::StatusOr<std::unique_ptr<BalanceLosses>> Create(const LoadStatistics& statistics,
                                                               const BalanceSettings& settings);

  // Reads the shares of the previous step. `total_tokens` is the size of the global batch.
  void StartStep(Context& ctx, int64_t total_tokens);
  // Adds the losses of the layer's scores [tokens, experts] to `sums`. Call it after the layer's
  // choices of this micro-batch are counted in the statistics.
  void Add(Context& ctx, int layer, Tensor scores, const LossSums& sums);
  // Gradient of the losses with respect to the score of each expert in the micro-batch of the
  // layer's last Add, the same for every token: float32 [experts].
  Tensor score_gradient(int layer) const;

 private:
  BalanceLosses(const LoadStatistics& statistics, const BalanceSettings& settings);
  bool has_step_shares(BalanceSource source) const {
    return source == BalanceSource::kPreviousStep && statistics_.has_previous();
  }
  void WriteStepWeights(int layer, absl::Span<double> pool, absl::Span<double> own) const;
  void UpdateMicroBatchShares(Context& ctx, int layer);
  // Factors from the share of an expert to the gradient of one of its scores.
  double PoolFactor(int layer) const;
  double LayerFactor(int layer) const;
  // Gradients of the pool loss and of the layer loss by score: float64 [2, experts].
  Tensor Weights(int layer) const;

  const LoadStatistics& statistics_;
  const BalanceSettings settings_;
  int64_t total_tokens_ = 0;
  std::vector<int> layers_of_pool_;
  std::vector<int64_t> first_;  // number of experts of the layers below; the last entry: of all
  MirroredTensor weights_;      // Weights of all layers
  Buffer score_gradients_;      // float32: score_gradient of all layers
};

}  // namespace unipool
