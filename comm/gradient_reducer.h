// Makes gradients global. Dense gradients are summed over all ranks and left sharded (ZeRO-1: rank
// r keeps the r-th part); expert gradients are summed over the replicas of those experts. Losses
// are scaled by their share of the global batch where they are made, so sums here are means there.
#pragma once

#include "comm/process_groups.h"
#include "runtime/context.h"

namespace unipool {

class GradientReducer {
 public:
  // `groups` is borrowed and outlives this.
  explicit GradientReducer(const ProcessGroups& groups);

  // dense: flat gradients of all replicated parameters, numel a multiple of the world's size; after
  // this, my shard (DenseShard) holds the sum over ranks and the rest is undefined.
  // expert: flat gradients of this rank's experts; after this, the sum over replicas.
  void Reduce(Context& ctx, Tensor dense, Tensor expert);
  // This rank's part of a flat tensor over replicated parameters.
  Tensor DenseShard(Tensor dense) const;
  // The L2 norm over every parameter once: all ranks' dense shards, each expert on one replica.
  // Waits for the stream.
  double GlobalNorm(Context& ctx, Tensor dense, Tensor expert);
  // After the update of my shard: everyone's shards to everyone.
  void GatherDense(Context& ctx, Tensor dense);

 private:
  const ProcessGroups& groups_;
};

}  // namespace unipool
