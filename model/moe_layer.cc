#include "model/moe_layer.h"

#include <utility>

#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"
#include "runtime/ops/top_k.h"

namespace unipool {

MoeLayer::MoeLayer(int layer, Router router, ExpertPool& pool, const ExpertMap& map,
                   SharedParts shared)
    : layer_(layer), router_(std::move(router)), pool_(pool), map_(map), shared_(shared) {}

void MoeLayer::Allocate(Context& ctx, int64_t tokens, Saved* saved) const {
  router_.Allocate(ctx, tokens, &saved->router);
}

void MoeLayer::Recompute(Context& ctx, Tensor x, const Saved& saved) const {
  router_.Score(ctx, x, saved.router);
}

void MoeLayer::Forward(Context& ctx, const ForwardArgs& args, Saved* saved) const {
  const Tensor& x = args.x;
  const Pass& pass = args.pass;
  const bool training = pass.sums != nullptr;
  const Tensor counts =
      training ? shared_.statistics->counts(layer_) : ctx.arena->New<int64_t>({map_.experts()});
  if (!training) Compute(ctx, Fill{.x = counts, .value = 0});

  router_.Forward(ctx, x, counts, &saved->router);
  if (pass.hook != nullptr) pass.hook->OnRouting(ctx, layer_, saved->router);
  shared_.exchange->Plan(ctx, map_, {.ids = saved->router.ids, .gates = saved->router.gates},
                         &saved->plan);
  const Tensor rows = ctx.arena->Allocate(x.dtype, {saved->plan.received, x.dim(1)});
  saved->returned = ctx.arena->Allocate(x.dtype, {saved->plan.sent, x.dim(1)});
  pool_.Allocate(ctx, rows, saved->plan.offsets, &saved->experts);
  ArenaScope scope(*ctx.arena);
  TokenExchange& exchange = *shared_.exchange;
  const DispatchPlan& plan = saved->plan;
  const Tensor results = exchange.NewReceiveBuffer(ctx, plan, saved->returned);
  TokenTransfer transfer =
      exchange.Dispatch(ctx, plan, {.x = x, .rows = rows, .returned = saved->returned});
  if (training) AddLosses(ctx, *saved, *pass.sums);  // overlaps the transfer
  for (int chunk = 0; chunk < plan.chunks(); ++chunk) {
    transfer.WaitChunk(ctx, chunk);
    pool_.Forward(ctx, plan.part(chunk), results, saved->experts);
    transfer.SendBack(ctx, chunk, results);
  }
  exchange.Combine(ctx, std::move(transfer),
                   {.gates = saved->router.gates, .base = args.base, .y = args.y});
}

void MoeLayer::AddLosses(Context& ctx, const Saved& saved, const LossSums& sums) const {
  Compute(ctx, CountUnrouted{.ids = saved.router.ids,
                             .gates = saved.router.gates,
                             .tokens = shared_.statistics->unrouted(),
                             .choices = shared_.statistics->unrouted_choices(layer_)});
  shared_.balance->Add(ctx, layer_, saved.router.scores, sums);
}

void MoeLayer::Backward(Context& ctx, const BackwardArgs& args, Saved& saved) {
  const Tensor &x = args.x, &dx = args.dx;
  TokenExchange& exchange = *shared_.exchange;
  const DispatchPlan& plan = saved.plan;
  // The pool reads dresults and gradients until its deferred weight gradients are computed, so
  // they are allocated outside of the scope.
  const Tensor dresults = exchange.NewReceiveBuffer(ctx, plan, saved.returned);
  const ExpertPool::Gradients gradients = pool_.AllocateBackward(ctx, dresults, saved.experts);
  ArenaScope scope(*ctx.arena);
  const Tensor dgates = ctx.arena->New({plan.tokens, plan.top_k});
  const Tensor drows = ctx.arena->Allocate(x.dtype, {plan.received, x.dim(1)});
  TokenTransfer transfer = exchange.CombineBackward(ctx, plan,
                                                    {.dy = args.dy,
                                                     .gates = saved.router.gates,
                                                     .returned = saved.returned,
                                                     .dgates = dgates,
                                                     .dresults = dresults});
  // These two overlap the transfer.
  router_.Backward(ctx,
                   {.dgates = dgates,
                    .score_gradient = shared_.balance->score_gradient(layer_),
                    .x = x,
                    .dx = dx},
                   saved.router);
  pool_.Recompute(ctx, saved.experts);
  for (int chunk = 0; chunk < plan.chunks(); ++chunk) {
    transfer.WaitChunk(ctx, chunk);
    pool_.Backward(ctx, plan.part(chunk), saved.experts, gradients, drows);
    transfer.SendBack(ctx, chunk, drows);
  }
  pool_.DeferWeightGradients(saved.experts, gradients);
  if (args.weight_gradients == WeightGradients::kCompute) pool_.ComputeDeferred(ctx);
  exchange.DispatchBackward(ctx, std::move(transfer), {.dx = dx, .add_to_dx = true});
}

void MoeLayer::FinishStep(Context& ctx) {
  router_.MoveBias(ctx, shared_.statistics->previous_on_device(layer_));
}

DenseLayer::DenseLayer(ExpertPool pool) : pool_(std::move(pool)) {}

void DenseLayer::Forward(Context& ctx, const ForwardArgs& args, Saved* saved) const {
  const Tensor& x = args.x;
  const Tensor offsets = ctx.arena->New<int64_t>({2});
  Compute(ctx, Fill{.x = offsets.Rows(0, 1), .value = 0});
  Compute(ctx, Fill{.x = offsets.Rows(1, 2), .value = static_cast<double>(x.dim(0))});
  pool_.Allocate(ctx, x, offsets, &saved->experts);
  ArenaScope scope(*ctx.arena);
  const Tensor results = ctx.arena->Allocate(x.dtype, {x.dim(0), x.dim(1)});
  pool_.Forward(ctx, pool_.All(x), results, saved->experts);
  Compute(ctx, Add{.a = args.base, .b = results, .y = args.y});
}

void DenseLayer::Backward(Context& ctx, const BackwardArgs& args, Saved& saved) {
  const Tensor &x = args.x, &dy = args.dy;
  // A copy, since the caller adds to dy before the deferred weight gradients are computed.
  const Tensor dresults = ctx.arena->Allocate(dy.dtype, {x.dim(0), x.dim(1)});
  const ExpertPool::Gradients gradients = pool_.AllocateBackward(ctx, dresults, saved.experts);
  Compute(ctx, Copy{.x = dy, .y = dresults});
  pool_.Recompute(ctx, saved.experts);
  pool_.Backward(ctx, pool_.All(x), saved.experts, gradients, args.dx);
  pool_.DeferWeightGradients(saved.experts, gradients);
  if (args.weight_gradients == WeightGradients::kCompute) pool_.ComputeDeferred(ctx);
}

}  // namespace unipool
