// Reduces gradients over ranks. Dense gradients are summed over all ranks and stay sharded (ZeRO-1:
// rank r keeps the r-th part); expert gradients are summed over the replicas of the experts. The
// losses are already scaled by their share of the global batch (model/method.md#loss-scaling), so
// the sums are the gradients of the mean loss.
#pragma once

#include "comm/process_groups.h"
#include "runtime/context.h"

namespace unipool {

class GradientReducer {
 public:
  // `groups` is borrowed and outlives this.
  explicit GradientReducer(const ProcessGroups& groups);

  // dense: flat gradients of all replicated parameters; its size is a multiple of the number of
  // ranks. Afterwards DenseShard(dense) holds the sum over ranks, and the rest is undefined.
  // expert: flat gradients of this rank's experts; afterwards the sums over replicas. Collective.
  void Reduce(Context& ctx, Tensor dense, Tensor expert);
  // This rank's part of a flat tensor over replicated parameters; absent if `dense` is absent.
  Tensor DenseShard(Tensor dense) const;
  // The L2 norm of the reduced gradients, each parameter counted once: the dense shards of all
  // ranks, and each expert on one replica. Collective. Waits for the stream.
  double GlobalNorm(Context& ctx, Tensor dense, Tensor expert);
  // Gathers the updated shards of all ranks into `dense` on every rank. Collective.
  void GatherDense(Context& ctx, Tensor dense);

 private:
  const ProcessGroups& groups_;
};

}  // namespace unipool
