// How many tokens each layer sends to each expert: n[l,e], counted on every rank over the
// micro-batches of a step and summed over all ranks at its end. The balance losses of the next step
// use them (one step behind), and so do metrics and placement. Facts D, M.3 `statistics: GLOBAL`.
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

  // Where layer l adds its counts during the step: int64 [experts of its pool].
  Tensor counts(int layer);
  // Where the step's tokens without a positive score are counted, over all layers: int64 [1].
  Tensor unrouted();
  // At the end of a step: sums over all ranks of `world`, keeps the sums, clears the counts.
  void FinishStep(Context& ctx, Communicator& world);

  // False until the first step is finished: the balance losses are then zero.
  bool has_previous() const { return has_previous_; }
  // Of the previous step, all ranks: n[l,e], int64 [experts of its pool].
  absl::Span<const int64_t> previous(int layer) const;
  // Each expert's share of the previous step's counts of this layer; sums to 1.
  void LayerShares(int layer, absl::Span<double> shares) const;
  // Each expert's share of the previous step's counts of all layers of the pool; sums to 1.
  void PoolShares(int pool, absl::Span<double> shares) const;
  // Of the previous step: mean over layers of (largest count / mean count), and the same for each
  // pool's counts summed over its layers. 1 is perfect balance; 0 before the first step.
  double LayerImbalance() const;
  double PoolImbalance() const;

  // Of the previous step, all ranks and layers: tokens without a positive score.
  int64_t previous_unrouted() const { return previous_.back(); }

  int num_layers() const { return static_cast<int>(pool_of_layer_.size()); }
  int num_pools() const { return static_cast<int>(experts_of_pool_.size()); }
  int pool_of_layer(int layer) const { return pool_of_layer_[layer]; }
  int experts(int layer) const { return experts_of_pool_[pool_of_layer_[layer]]; }

 private:
  // Of one expert in the previous step, over all layers of the pool.
  int64_t PoolCount(int pool, int expert) const;

  std::vector<int> pool_of_layer_;
  std::vector<int> experts_of_pool_;
  std::vector<int64_t> first_;    // of layer l's counts in the flat arrays
  std::vector<int64_t> current_;  // counts of all layers, then the unrouted
  std::vector<int64_t> previous_;
  bool has_previous_ = false;
};

}  // namespace unipool
