// Number of tokens for which each layer chooses each expert, n[l,e], counted on every rank, and how
// many of them are not sent, because their gate is 0 (model/method.md#unrouted-choices). The
// balance losses and the routers' biases use all choices; the loads use those that are sent.
//
// Three sets of counts are kept:
// - of the current micro-batch on this rank: for the layer loss (model/method.md#layer-loss);
// - of the previous micro-batch on this rank: for the pool loss with `statistics: LOCAL`
//   (model/method.md#pool-loss). It does not exist before the first micro-batch, and it outlives
//   the step;
// - of the previous step, summed over micro-batches and ranks: for `statistics: GLOBAL`
//   (model/method.md#statistics), the routers' biases and the metrics.
// A checkpoint holds the last two.
//
// The counts are on the device of the ops that count; the host receives the counts of the previous
// step once per step.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "comm/communicator.h"
#include "runtime/buffer.h"
#include "runtime/context.h"
#include "runtime/mirrored_tensor.h"

namespace unipool {

class LoadStatistics {
 public:
  // Layer l routes into pool pool_of_layer[l], which holds experts_of_pool[pool] experts. The
  // layers of a pool are consecutive. Counts are on `device`. RESOURCE_EXHAUSTED if the memory
  // cannot be allocated.
  static absl::StatusOr<std::unique_ptr<LoadStatistics>> Create(std::vector<int> pool_of_layer,
                                                                std::vector<int> experts_of_pool,
                                                                Device device);

  Device device() const { return device_; }

  // Counts of the current micro-batch, to which layer l adds: int64 [experts of its pool].
  Tensor counts(int layer) const { return OfLayer(micro_, layer); }
  // Number of tokens without a positive score in the current micro-batch, to which every layer
  // adds: int64 [1].
  Tensor unrouted() const { return micro_.Rows(state_size() - 1, state_size()); }
  // Number of choices in counts(layer) whose gate is 0, to which the layer adds: int64 [experts].
  Tensor unrouted_choices(int layer) const {
    return OfLayer(micro_.Rows(state_size(), micro_.numel()), layer);
  }
  // Ends a micro-batch of `tokens` tokens on this rank: adds its counts to those of the step and
  // keeps them as the previous micro-batch. Does nothing if `tokens` is 0.
  void FinishMicroBatch(Context& ctx, int64_t tokens);
  // Ends a step: sums its counts over all ranks of `world`, keeps the sums as the previous step and
  // clears the counts. Collective. Waits until the host has the sums.
  void FinishStep(Context& ctx, Communicator& world);
  // Ends a step whose update is skipped: clears its counts and keeps those of the previous step.
  // The previous micro-batch is still the last one of this step, because its tokens were routed.
  void DropStep(Context& ctx);

  // The counts of this rank's previous micro-batch in all layers of a pool, int64 [layers,
  // experts]. CHECKs that there is one.
  bool has_previous_micro_batch() const { return has_previous_micro_batch_; }
  Tensor previous_micro_batch(int pool) const;

  // The counts of a layer in the previous step, over all ranks: int64 [experts of its pool], on the
  // device and on the host. CHECKs that there is a previous step.
  bool has_previous() const { return has_previous_; }
  Tensor previous_on_device(int layer) const;
  absl::Span<const int64_t> previous(int layer) const;
  // Each expert's share of those counts, in a layer or in all layers of a pool. The shares sum to
  // 1; they are equal if nothing was counted.
  void LayerShares(int layer, absl::Span<double> shares) const;
  void PoolShares(int pool, absl::Span<double> shares) const;
  // Number of choices in previous(layer) whose gate is 0, by expert.
  absl::Span<const int64_t> previous_unrouted_choices(int layer) const;
  // Number of choices of the previous step that the layer sent to the expert: its load.
  int64_t previous_load(int layer, int expert) const;
  // Largest load / mean load in the previous step: mean over layers, and mean over pools of the
  // loads summed over the pool's layers. 1 is perfect balance; 0 before the first step.
  double LayerImbalance() const;
  double PoolImbalance() const;
  // Tokens without a positive score in the previous step, over all ranks and layers.
  int64_t previous_unrouted() const { return previous_counts()[state_size() - 1]; }

  // The counts of the previous step and of the previous micro-batch for a checkpoint, flat: n[l,e]
  // of all layers, lowest first, then the unrouted tokens. step_state is the same on every rank;
  // micro_batch_state is this rank's own, read from the device. step_unrouted_choices are those of
  // step_state that were not sent, of all layers. Empty if the counts do not exist.
  absl::Span<const int64_t> step_state() const;
  absl::Span<const int64_t> step_unrouted_choices() const;
  absl::Span<const int64_t> micro_batch_state();
  int64_t state_size() const { return state_size_; }
  struct State {
    absl::Span<const int64_t> step = {};         // state_size() elements or empty
    absl::Span<const int64_t> micro_batch = {};  // the same
    absl::Span<const int64_t> step_unrouted_choices =
        {};  // state_size() - 1 elements; empty: all 0
  };
  // Sets the counts of the previous step and micro-batch, and clears those of the current step.
  // Call it between steps only: it waits for no stream.
  void Restore(const State& state);

  int num_layers() const { return static_cast<int>(pool_of_layer_.size()); }
  int num_pools() const { return static_cast<int>(experts_of_pool_.size()); }
  int pool_of_layer(int layer) const { return pool_of_layer_[layer]; }
  int experts(int layer) const { return experts_of_pool_[pool_of_layer_[layer]]; }

 private:
  LoadStatistics(std::vector<int> pool_of_layer, std::vector<int> experts_of_pool, Device device);
  // The part of layer l in `counts`, which begins with n[l,e] of all layers.
  Tensor OfLayer(const Tensor& counts, int layer) const;
  const int64_t* previous_counts() const { return previous_.on_host().as<int64_t>(); }
  // The largest / mean load of the experts of layers [first, last), which share a pool; 1 if
  // nothing was sent.
  double Imbalance(int first_layer, int last_layer) const;

  std::vector<int> pool_of_layer_;
  std::vector<int> experts_of_pool_;
  Device device_;
  std::vector<int64_t> first_;            // [layers]: position of the layer's first count
  std::vector<int> first_layer_of_pool_;  // [pools + 1]; the last entry is the number of layers
  int64_t state_size_ = 0;
  Buffer buffer_;
  // Each of these has n[l,e] of all layers, the unrouted tokens, and the unrouted choices of all
  // layers in the order of n[l,e].
  Tensor micro_;    // counts of the current micro-batch
  Tensor current_;  // counts of the step's finished micro-batches
  Tensor previous_micro_;
  MirroredTensor previous_;
  std::vector<int64_t> micro_batch_state_;
  bool has_previous_micro_batch_ = false;
  bool has_previous_ = false;
};

}  // namespace unipool
