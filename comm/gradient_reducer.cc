#include "comm/gradient_reducer.h"

#include <glog/logging.h>

#include <cmath>

#include "comm/rank_order_reduce.h"
#include "runtime/copy.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"

namespace unipool {

GradientReducer::GradientReducer(const ProcessGroups& groups) : groups_(groups) {}

void GradientReducer::Reduce(Context& ctx, Tensor dense, Tensor expert) {
  {
    Profiler::Scope scope(ctx.profiler, "reduce.dense");
    groups_.world().ReduceScatter(dense, DenseShard(dense), *ctx.stream);
  }
  Profiler::Scope scope(ctx.profiler, "reduce.expert");
  groups_.expert_data().AllReduce(expert, ReduceOp::kSum, *ctx.stream);
}

Tensor GradientReducer::DenseShard(Tensor dense) const {
  if (dense.absent()) return dense;
  CHECK_EQ(dense.rank, 1) << dense.ShapeString();
  const Communicator& world = groups_.world();
  CHECK_EQ(dense.numel() % world.size(), 0)
      << dense.ShapeString() << " does not divide by " << world.size() << " ranks";
  const int64_t part = dense.numel() / world.size();
  return dense.Rows(world.rank() * part, (world.rank() + 1) * part);
}

double GradientReducer::GlobalNorm(Context& ctx, Tensor dense, Tensor expert) {
  Profiler::Scope scope(ctx.profiler, "reduce.global_norm");
  ArenaScope arena_scope(*ctx.arena);
  const Tensor sum = ctx.arena->New<double>({1});
  Compute(ctx, Fill{.x = sum, .value = 0});
  const Tensor shard = DenseShard(dense);
  if (!shard.empty()) Compute(ctx, SumOfSquares{.x = shard, .sum = sum});
  // The replicas of an expert hold the same gradients, so each sums its own part of them.
  const Communicator& replicas = groups_.expert_data();
  if (!expert.empty()) {
    const Tensor flat = expert.Reshape({expert.numel()});
    const int64_t begin = PartBegin(flat.numel(), replicas.size(), replicas.rank());
    const int64_t end = PartBegin(flat.numel(), replicas.size(), replicas.rank() + 1);
    Compute(ctx, SumOfSquares{.x = flat.Rows(begin, end), .sum = sum});
  }
  groups_.world().AllReduce(sum, ReduceOp::kSum, *ctx.stream);
  ctx.stream->Synchronize();
  double total = 0;
  ReadTensor(sum, &total);
  return std::sqrt(total);
}

void GradientReducer::GatherDense(Context& ctx, Tensor dense) {
  Profiler::Scope scope(ctx.profiler, "reduce.gather_dense");
  groups_.world().AllGather(DenseShard(dense), dense, *ctx.stream);
}

}  // namespace unipool
