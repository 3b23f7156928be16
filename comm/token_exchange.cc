#include "comm/token_exchange.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "runtime/ops/compute.h"
#include "runtime/ops/expert_order.h"
#include "runtime/ops/permute.h"

namespace unipool {
namespace {

constexpr int64_t kMostRows = std::numeric_limits<int32_t>::max();  // that an index can tell

Tensor First(const MirroredTensor& counts, int64_t size) {
  return counts.on_device().Rows(0, size);
}

}  // namespace

TokenExchange::TokenExchange(Communicator& group) : group_(group) {}

void TokenExchange::Plan(Context& ctx, const ExpertMap& map, Tensor expert_ids,
                         DispatchPlan* plan) {
  Profiler::Scope scope(ctx.profiler, "exchange.plan");
  CHECK_EQ(expert_ids.rank, 2) << expert_ids.ShapeString();
  CHECK_EQ(map.ranks(), group_.size());
  CHECK_LE(expert_ids.numel(), kMostRows);
  const int64_t slots = static_cast<int64_t>(map.owned(group_.rank()).size());
  plan->tokens = expert_ids.dim(0);
  plan->top_k = expert_ids.dim(1);
  plan->send_index = ctx.arena->New<int32_t>({expert_ids.numel()});
  plan->positions = ctx.arena->New<int32_t>({plan->tokens, plan->top_k});
  plan->offsets = ctx.arena->New<int64_t>({slots + 1});
  plan->to_slot_order = plan->to_arrival_order = Tensor{};
  MakeRoom(ctx, map.experts(), group_.size() * slots);
  Compute(ctx, SortByExpert{.ids = expert_ids,
                            .order = map.order_table(*ctx.stream),
                            .counts = First(send_counts_, map.experts()),
                            .send_index = plan->send_index,
                            .positions = plan->positions});
  Tensor counts = First(send_counts_, map.experts()).Reshape({1, map.experts()});
  if (alone()) {
    plan->received = expert_ids.numel();
  } else {
    counts = ExchangeCounts(ctx, map, plan);
    CHECK_LE(plan->received, kMostRows);
    plan->to_slot_order = ctx.arena->New<int32_t>({plan->received});
    plan->to_arrival_order = ctx.arena->New<int32_t>({plan->received});
  }
  Compute(ctx, OrderArrivals{.counts = counts,
                             .offsets = plan->offsets,
                             .to_slot_order = plan->to_slot_order,
                             .to_arrival_order = plan->to_arrival_order});
}

void TokenExchange::MakeRoom(Context& ctx, int64_t experts, int64_t received_counts) {
  const auto grow = [&](MirroredTensor& counts, int64_t size) {
    if (counts.size() >= size) return;
    ctx.stream->Synchronize();  // the memory that is given back may be in use
    absl::StatusOr<MirroredTensor> larger =
        MirroredTensor::Create(ctx.stream->device(), DType::kInt64, size);
    CHECK(larger.ok()) << larger.status();
    counts = *std::move(larger);
  };
  grow(send_counts_, std::max<int64_t>(experts, 1));
  if (!alone()) grow(recv_counts_, std::max<int64_t>(received_counts, 1));
  if (timer_ == nullptr) timer_ = StreamTimer::Create(ctx.stream->device());
}

Tensor TokenExchange::ExchangeCounts(Context& ctx, const ExpertMap& map, DispatchPlan* plan) {
  const int ranks = group_.size();
  const int64_t slots = static_cast<int64_t>(map.owned(group_.rank()).size());
  send_count_rows_.resize(ranks);
  recv_count_rows_.assign(ranks, slots);
  for (int r = 0; r < ranks; ++r) {
    send_count_rows_[r] = static_cast<int64_t>(map.owned(r).size());
  }
  const Tensor received = First(recv_counts_, ranks * slots);
  send_counts_.Download(map.experts(), *ctx.stream);
  AllToAll(ctx, First(send_counts_, map.experts()), send_count_rows_, received, recv_count_rows_);
  recv_counts_.Download(ranks * slots, *ctx.stream);
  WaitForHost(*ctx.stream);
  SumRows(map, plan);
  return received.Reshape({ranks, slots});
}

void TokenExchange::SumRows(const ExpertMap& map, DispatchPlan* plan) {
  const int ranks = group_.size();
  const int64_t slots = static_cast<int64_t>(map.owned(group_.rank()).size());
  const int64_t* sent = send_counts_.on_host().as<int64_t>();
  const int64_t* received = recv_counts_.on_host().as<int64_t>();
  plan->send_rows.resize(ranks);
  plan->recv_rows.resize(ranks);
  plan->received = 0;
  for (int r = 0; r < ranks; ++r) {
    const int64_t* const first = sent + map.first_order(r);
    plan->send_rows[r] = std::accumulate(first, first + map.owned(r).size(), int64_t{0});
    plan->recv_rows[r] =
        std::accumulate(received + r * slots, received + (r + 1) * slots, int64_t{0});
    plan->received += plan->recv_rows[r];
  }
}

Tensor TokenExchange::Dispatch(Context& ctx, const DispatchPlan& plan, Tensor x) {
  Profiler::Scope scope(ctx.profiler, "exchange.dispatch");
  CHECK_EQ(x.rank, 2) << x.ShapeString();
  CHECK_EQ(x.dim(0), plan.tokens) << x.ShapeString();
  const int64_t hidden = x.dim(1);
  const Tensor rows = ctx.arena->Allocate(x.dtype, {plan.received, hidden});
  if (alone()) {
    Compute(ctx, GatherRows{.x = x, .index = plan.send_index, .y = rows});
    return rows;
  }
  ArenaScope arena_scope(*ctx.arena);
  const Tensor outgoing = ctx.arena->Allocate(x.dtype, {plan.tokens * plan.top_k, hidden});
  Compute(ctx, GatherRows{.x = x, .index = plan.send_index, .y = outgoing});
  SendOut(ctx, plan, outgoing, rows);
  return rows;
}

void TokenExchange::Combine(Context& ctx, const DispatchPlan& plan, Tensor results, Tensor gates,
                            Tensor base, Tensor y, Tensor* returned) {
  Profiler::Scope scope(ctx.profiler, "exchange.combine");
  *returned = results;
  if (!alone()) {
    *returned = ctx.arena->Allocate(y.dtype, {plan.tokens * plan.top_k, y.dim(1)});
    SendBack(ctx, plan, results, *returned);
  }
  Compute(
      ctx,
      CombineRows{
          .rows = *returned, .positions = plan.positions, .gates = gates, .base = base, .y = y});
}

Tensor TokenExchange::CombineBackward(Context& ctx, const DispatchPlan& plan, Tensor dy,
                                      Tensor gates, Tensor returned, Tensor dgates) {
  Profiler::Scope scope(ctx.profiler, "exchange.combine_backward");
  Compute(ctx, CombineRowsBackward{.dy = dy,
                                   .rows = returned,
                                   .positions = plan.positions,
                                   .gates = gates,
                                   .drows = returned,
                                   .dgates = dgates});
  if (alone()) return returned;
  const Tensor dresults = ctx.arena->Allocate(dy.dtype, {plan.received, dy.dim(1)});
  SendOut(ctx, plan, returned, dresults);
  return dresults;
}

void TokenExchange::DispatchBackward(Context& ctx, const DispatchPlan& plan, Tensor drows,
                                     Tensor dx, bool add_to_dx) {
  Profiler::Scope scope(ctx.profiler, "exchange.dispatch_backward");
  ArenaScope arena_scope(*ctx.arena);
  Tensor returned = drows;
  if (!alone()) {
    returned = ctx.arena->Allocate(dx.dtype, {plan.tokens * plan.top_k, dx.dim(1)});
    SendBack(ctx, plan, drows, returned);
  }
  Compute(ctx, CombineRows{.rows = returned,
                           .positions = plan.positions,
                           .gates = Tensor{},
                           .base = add_to_dx ? dx : Tensor{},
                           .y = dx});
}

double TokenExchange::TakeExposedSeconds() {
  return timer_ == nullptr ? 0.0 : timer_->TakeSeconds();
}

void TokenExchange::SendOut(Context& ctx, const DispatchPlan& plan, const Tensor& outgoing,
                            const Tensor& rows) {
  ArenaScope arena_scope(*ctx.arena);
  const Tensor arrivals = ctx.arena->Allocate(rows.dtype, {plan.received, rows.dim(1)});
  AllToAll(ctx, outgoing, plan.send_rows, arrivals, plan.recv_rows);
  Compute(ctx, GatherRows{.x = arrivals, .index = plan.to_slot_order, .y = rows});
}

void TokenExchange::SendBack(Context& ctx, const DispatchPlan& plan, const Tensor& rows,
                             const Tensor& returned) {
  CHECK_EQ(rows.dim(0), plan.received) << rows.ShapeString();
  ArenaScope arena_scope(*ctx.arena);
  const Tensor arrivals = ctx.arena->Allocate(rows.dtype, {plan.received, rows.dim(1)});
  Compute(ctx, GatherRows{.x = rows, .index = plan.to_arrival_order, .y = arrivals});
  AllToAll(ctx, arrivals, plan.recv_rows, returned, plan.send_rows);
}

void TokenExchange::AllToAll(Context& ctx, Tensor input, absl::Span<const int64_t> send_rows,
                             Tensor output, absl::Span<const int64_t> recv_rows) {
  Profiler::Scope scope(ctx.profiler, "exchange.all_to_all");
  timer_->Start(*ctx.stream);
  group_.AllToAllV(input, send_rows, output, recv_rows, *ctx.stream);
  timer_->Stop(*ctx.stream);
}

}  // namespace unipool
