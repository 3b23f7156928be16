// How many tokens each layer sends to each expert: n[l,e], counted on every rank.
//
// Three counts are kept. Of the micro-batch under way, for the layers' own balance losses (facts
// D.2). Of this rank's previous micro-batch, for pool losses with `statistics: LOCAL`
// (model/method.md#pool-loss): none before a rank's first, and across steps. Of the previous step,
// summed over micro-batches and ranks, for `statistics: GLOBAL` (model/method.md#statistics),
// biases, metrics and placement. The last two outlive a step and are what a checkpoint has to hold.
//
// Counts are where the ops count them; the host learns those of the previous step, once a step.
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
  // Layer l routes into pool pool_of_layer[l], which holds experts_of_pool[pool] experts; the
  // layers of a pool follow one another. Counts are on `device`.
  static absl::StatusOr<std::unique_ptr<LoadStatistics>> Create(std::vector<int> pool_of_layer,
                                                                std::vector<int> experts_of_pool,
                                                                Device device);

  Device device() const { return device_; }

  // Where layer l adds its counts during a micro-batch: int64 [experts of its pool].
  Tensor counts(int layer) const { return OfLayer(micro_, layer); }
  // Where tokens without a positive score are counted, over all layers: int64 [1].
  Tensor unrouted() const { return micro_.Rows(state_size() - 1, state_size()); }
  // At the end of a micro-batch of `tokens` tokens of this rank: adds its counts to the step's and
  // keeps them as those of the previous one. A micro-batch without tokens is none.
  void FinishMicroBatch(Context& ctx, int64_t tokens);
  // At the end of a step: sums over all ranks of `world`, keeps the sums, clears the counts. Waits
  // until the host has the sums.
  void FinishStep(Context& ctx, Communicator& world);
  // Instead, for a step whose update is skipped: the previous step's counts stay. Those of this
  // rank's previous micro-batch do not: its tokens were routed, whatever became of the update.
  void DropStep(Context& ctx);

  // Of this rank's previous micro-batch, false before the first: the counts of all layers of a
  // pool, int64 [layers, experts].
  bool has_previous_micro_batch() const { return has_previous_micro_batch_; }
  Tensor previous_micro_batch(int pool) const;

  // Of the previous step, all ranks, false before the first: n[l,e] of a layer, int64 [experts of
  // its pool], on the device and on the host.
  bool has_previous() const { return has_previous_; }
  Tensor previous_on_device(int layer) const;
  absl::Span<const int64_t> previous(int layer) const;
  // Each expert's share of those counts, of a layer or of all layers of a pool; sums to 1, evenly
  // where nothing was counted.
  void LayerShares(int layer, absl::Span<double> shares) const;
  void PoolShares(int pool, absl::Span<double> shares) const;
  // Of the previous step: mean over layers of (largest count / mean count), and the same for each
  // pool's counts summed over its layers. 1 is perfect balance; 0 before the first step.
  double LayerImbalance() const;
  double PoolImbalance() const;
  // Of the previous step, all ranks and layers: tokens without a positive score.
  int64_t previous_unrouted() const { return previous_counts()[state_size() - 1]; }

  // What outlives a step, flat: n[l,e] of all layers, lowest first, then the unrouted tokens. The
  // first is the same on every rank, the second is this rank's own, read from the device; empty
  // where there is none.
  absl::Span<const int64_t> step_state() const;
  absl::Span<const int64_t> micro_batch_state();
  int64_t state_size() const { return previous_.size(); }
  // Takes both back, each of state_size() or empty. Counts of a step under way are dropped. Between
  // steps: waits for no stream.
  void Restore(absl::Span<const int64_t> step_state, absl::Span<const int64_t> micro_batch_state);

  int num_layers() const { return static_cast<int>(pool_of_layer_.size()); }
  int num_pools() const { return static_cast<int>(experts_of_pool_.size()); }
  int pool_of_layer(int layer) const { return pool_of_layer_[layer]; }
  int experts(int layer) const { return experts_of_pool_[pool_of_layer_[layer]]; }

 private:
  LoadStatistics(std::vector<int> pool_of_layer, std::vector<int> experts_of_pool, Device device);
  // Counts are of all layers, then the unrouted: int64 [state_size()].
  Tensor OfLayer(const Tensor& counts, int layer) const;
  const int64_t* previous_counts() const { return previous_.on_host().as<int64_t>(); }
  // Of one expert in the previous step, over all layers of the pool.
  int64_t OfPool(int pool, int expert) const;

  std::vector<int> pool_of_layer_;
  std::vector<int> experts_of_pool_;
  Device device_;
  std::vector<int64_t> first_;            // of layer l's counts
  std::vector<int> first_layer_of_pool_;  // and, last, the number of layers
  Buffer buffer_;
  Tensor micro_;    // of the micro-batch under way
  Tensor current_;  // of the step's finished micro-batches
  Tensor previous_micro_;
  MirroredTensor previous_;
  std::vector<int64_t> micro_batch_state_;
  bool has_previous_micro_batch_ = false;
  bool has_previous_ = false;
};

}  // namespace unipool
