// How many tokens each layer sends to each expert: n[l,e], counted on every rank.
//
// Three counts are kept. Of the micro-batch under way, for the layers' own balance losses (facts
// D.2). Of this rank's previous micro-batch, for pool losses with `statistics: LOCAL` (facts D.4):
// none before a rank's first, and across steps. Of the previous step, summed over micro-batches and
// ranks, for `statistics: GLOBAL` (facts M.3), biases, metrics and placement. The last two outlive
// a step and are what a checkpoint has to hold.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "comm/communicator.h"
#include "runtime/context.h"

namespace unipool {

class LoadStatistics {
 public:
  // Layer l routes into pool pool_of_layer[l], which holds experts_of_pool[pool] experts.
  LoadStatistics(std::vector<int> pool_of_layer, std::vector<int> experts_of_pool);

  // Where layer l adds its counts during a micro-batch: int64 [experts of its pool].
  Tensor counts(int layer);
  // Where tokens without a positive score are counted, over all layers: int64 [1].
  Tensor unrouted();
  // At the end of a micro-batch: adds its counts to the step's and keeps them as those of the
  // previous one. A micro-batch without tokens is none.
  void FinishMicroBatch();
  // At the end of a step: sums over all ranks of `world`, keeps the sums, clears the counts.
  void FinishStep(Context& ctx, Communicator& world);
  // Instead, for a step whose update is skipped: the previous step's counts stay. Those of this
  // rank's previous micro-batch do not: its tokens were routed, whatever became of the update.
  void DropStep();

  // Each expert's share of the counts; sums to 1, evenly where nothing was counted. Of a layer in
  // the micro-batch under way:
  void MicroBatchShares(int layer, absl::Span<double> shares) const;
  // Of all layers of a pool in this rank's previous micro-batch, false before the first:
  bool has_previous_micro_batch() const { return has_previous_micro_batch_; }
  void PreviousMicroBatchShares(int pool, absl::Span<double> shares) const;
  // Of one layer, or all layers of a pool, in the previous step, false before the first:
  bool has_previous() const { return has_previous_; }
  void LayerShares(int layer, absl::Span<double> shares) const;
  void PoolShares(int pool, absl::Span<double> shares) const;

  // Of the previous step, all ranks: n[l,e], int64 [experts of its pool].
  absl::Span<const int64_t> previous(int layer) const;
  // Of the previous step: mean over layers of (largest count / mean count), and the same for each
  // pool's counts summed over its layers. 1 is perfect balance; 0 before the first step.
  double LayerImbalance() const;
  double PoolImbalance() const;
  // Of the previous step, all ranks and layers: tokens without a positive score.
  int64_t previous_unrouted() const { return previous_.back(); }

  // What outlives a step, flat: n[l,e] of all layers, lowest first, then the unrouted tokens. The
  // first is the same on every rank, the second is this rank's own; empty where there is none.
  absl::Span<const int64_t> step_state() const;
  absl::Span<const int64_t> micro_batch_state() const;
  int64_t state_size() const { return static_cast<int64_t>(micro_.size()); }
  // Takes both back, each of state_size() or empty. Counts of a step under way are dropped.
  void Restore(absl::Span<const int64_t> step_state, absl::Span<const int64_t> micro_batch_state);

  int num_layers() const { return static_cast<int>(pool_of_layer_.size()); }
  int num_pools() const { return static_cast<int>(experts_of_pool_.size()); }
  int pool_of_layer(int layer) const { return pool_of_layer_[layer]; }
  int experts(int layer) const { return experts_of_pool_[pool_of_layer_[layer]]; }

 private:
  // Counts of all layers, then the unrouted.
  using Counts = std::vector<int64_t>;
  absl::Span<const int64_t> OfLayer(const Counts& counts, int layer) const;
  // Of one expert, over all layers of the pool.
  int64_t OfPool(const Counts& counts, int pool, int expert) const;
  void SharesOfLayer(const Counts& counts, int layer, absl::Span<double> shares) const;
  void SharesOfPool(const Counts& counts, int pool, absl::Span<double> shares) const;

  std::vector<int> pool_of_layer_;
  std::vector<int> experts_of_pool_;
  std::vector<int64_t> first_;  // of layer l's counts in a Counts
  Counts micro_;                // of the micro-batch under way
  Counts current_;              // of the step's finished micro-batches
  Counts previous_micro_;
  Counts previous_;
  bool has_previous_micro_batch_ = false;
  bool has_previous_ = false;
};

}  // namespace unipool
