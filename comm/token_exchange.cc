#include "comm/token_exchange.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <limits>
#include <numeric>
#include <utility>

#include "runtime/ops/compute.h"
#include "runtime/ops/permute.h"

namespace unipool {
namespace {

absl::Span<const int64_t> Span(const Tensor& counts) {
  return absl::MakeSpan(counts.as<int64_t>(), counts.numel());
}

void CheckIndexable(int64_t rows) { CHECK_LE(rows, std::numeric_limits<int32_t>::max()); }

}  // namespace

TokenExchange::TokenExchange(Communicator& group) : group_(group) {}

DispatchPlan TokenExchange::Plan(Context& ctx, const ExpertMap& map, Tensor expert_ids) {
  Profiler::Scope scope(ctx.profiler, "exchange.plan");
  CHECK_EQ(expert_ids.rank, 2) << expert_ids.ShapeString();
  CHECK_EQ(map.ranks(), group_.size());
  CheckIndexable(expert_ids.numel());
  const int64_t slots = static_cast<int64_t>(map.owned(group_.rank()).size());
  DispatchPlan plan;
  plan.tokens = expert_ids.dim(0);
  plan.top_k = expert_ids.dim(1);
  plan.send_index = ctx.arena->New<int32_t>({expert_ids.numel()});
  plan.positions = ctx.arena->New<int32_t>({plan.tokens, plan.top_k});
  plan.send_rows = ctx.arena->New<int64_t>({group_.size()});
  plan.recv_rows = ctx.arena->New<int64_t>({group_.size()});
  plan.offsets = ctx.arena->New<int64_t>({slots + 1});
  SortByExpert(map, expert_ids, plan);
  ExchangeCounts(ctx, map, plan);
  if (alone()) return plan;
  CheckIndexable(plan.received);
  plan.to_slot_order = ctx.arena->New<int32_t>({plan.received});
  plan.to_arrival_order = ctx.arena->New<int32_t>({plan.received});
  OrderArrivals(slots, plan);
  return plan;
}

// A counting sort, stable in (token, choice).
void TokenExchange::SortByExpert(const ExpertMap& map, const Tensor& expert_ids,
                                 DispatchPlan& plan) {
  const int32_t* ids = expert_ids.as<int32_t>();
  const int64_t pairs = expert_ids.numel();
  send_counts_.assign(map.experts(), 0);
  for (int64_t i = 0; i < pairs; ++i) {
    DCHECK(0 <= ids[i] && ids[i] < map.experts()) << ids[i] << " of " << map.experts();
    ++send_counts_[map.order(ids[i])];
  }
  next_.resize(map.experts());
  std::exclusive_scan(send_counts_.begin(), send_counts_.end(), next_.begin(), int64_t{0});
  int32_t* send_index = plan.send_index.as<int32_t>();
  int32_t* positions = plan.positions.as<int32_t>();
  for (int64_t t = 0; t < plan.tokens; ++t) {
    for (int64_t i = t * plan.top_k; i < (t + 1) * plan.top_k; ++i) {
      const int64_t row = next_[map.order(ids[i])]++;
      positions[i] = static_cast<int32_t>(row);
      send_index[row] = static_cast<int32_t>(t);
    }
  }
}

void TokenExchange::ExchangeCounts(Context& ctx, const ExpertMap& map, DispatchPlan& plan) {
  const int ranks = group_.size();
  const int64_t slots = static_cast<int64_t>(map.owned(group_.rank()).size());
  recv_counts_.resize(ranks * slots);
  send_count_rows_.resize(ranks);
  recv_count_rows_.assign(ranks, slots);
  int64_t* send_rows = plan.send_rows.as<int64_t>();
  int64_t* recv_rows = plan.recv_rows.as<int64_t>();
  for (int r = 0; r < ranks; ++r) {
    send_count_rows_[r] = static_cast<int64_t>(map.owned(r).size());
    const auto first = send_counts_.begin() + map.first_order(r);
    send_rows[r] = std::accumulate(first, first + send_count_rows_[r], int64_t{0});
  }
  AllToAll(ctx, Tensor::Of(send_counts_.data(), {map.experts()}),
           Tensor::Of(send_count_rows_.data(), {ranks}),
           Tensor::Of(recv_counts_.data(), {ranks * slots}),
           Tensor::Of(recv_count_rows_.data(), {ranks}));
  int64_t* offsets = plan.offsets.as<int64_t>();
  std::fill_n(offsets, slots + 1, 0);
  for (int r = 0; r < ranks; ++r) {
    const int64_t* counts = recv_counts_.data() + r * slots;
    recv_rows[r] = std::accumulate(counts, counts + slots, int64_t{0});
    for (int64_t s = 0; s < slots; ++s) offsets[s + 1] += counts[s];
  }
  std::inclusive_scan(offsets, offsets + slots + 1, offsets);
  plan.received = offsets[slots];
}

void TokenExchange::OrderArrivals(int64_t slots, DispatchPlan& plan) {
  int32_t* to_slot_order = plan.to_slot_order.as<int32_t>();
  int32_t* to_arrival_order = plan.to_arrival_order.as<int32_t>();
  const int64_t* offsets = plan.offsets.as<int64_t>();
  next_.assign(offsets, offsets + slots);
  int32_t arrival = 0;
  for (size_t source_slot = 0; source_slot < recv_counts_.size(); ++source_slot) {
    int64_t& next = next_[source_slot % slots];
    for (int64_t i = 0; i < recv_counts_[source_slot]; ++i, ++arrival, ++next) {
      to_slot_order[next] = arrival;
      to_arrival_order[arrival] = static_cast<int32_t>(next);
    }
  }
}

Tensor TokenExchange::Dispatch(Context& ctx, const DispatchPlan& plan, Tensor x) {
  Profiler::Scope scope(ctx.profiler, "exchange.dispatch");
  CHECK_EQ(x.rank, 2) << x.ShapeString();
  CHECK_EQ(x.dim(0), plan.tokens) << x.ShapeString();
  const int64_t hidden = x.dim(1);
  const Tensor rows = ctx.arena->New({plan.received, hidden});
  if (alone()) {
    Compute(ctx, GatherRows{.x = x, .index = plan.send_index, .y = rows});
    return rows;
  }
  ArenaScope arena_scope(*ctx.arena);
  const Tensor outgoing = ctx.arena->New({plan.tokens * plan.top_k, hidden});
  Compute(ctx, GatherRows{.x = x, .index = plan.send_index, .y = outgoing});
  SendOut(ctx, plan, outgoing, rows);
  return rows;
}

void TokenExchange::Combine(Context& ctx, const DispatchPlan& plan, Tensor results, Tensor gates,
                            Tensor y, bool add_to_y, Tensor* returned) {
  Profiler::Scope scope(ctx.profiler, "exchange.combine");
  *returned = results;
  if (!alone()) {
    *returned = ctx.arena->New({plan.tokens * plan.top_k, y.dim(1)});
    SendBack(ctx, plan, results, *returned);
  }
  Compute(ctx, CombineRows{.rows = *returned,
                           .positions = plan.positions,
                           .gates = gates,
                           .y = y,
                           .add_to_y = add_to_y});
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
  const Tensor dresults = ctx.arena->New({plan.received, dy.dim(1)});
  SendOut(ctx, plan, returned, dresults);
  return dresults;
}

void TokenExchange::DispatchBackward(Context& ctx, const DispatchPlan& plan, Tensor drows,
                                     Tensor dx, bool add_to_dx) {
  Profiler::Scope scope(ctx.profiler, "exchange.dispatch_backward");
  ArenaScope arena_scope(*ctx.arena);
  Tensor returned = drows;
  if (!alone()) {
    returned = ctx.arena->New({plan.tokens * plan.top_k, dx.dim(1)});
    SendBack(ctx, plan, drows, returned);
  }
  Compute(ctx, CombineRows{.rows = returned,
                           .positions = plan.positions,
                           .gates = Tensor{},
                           .y = dx,
                           .add_to_y = add_to_dx});
}

double TokenExchange::TakeExposedSeconds() { return std::exchange(exposed_seconds_, 0.0); }

void TokenExchange::SendOut(Context& ctx, const DispatchPlan& plan, const Tensor& outgoing,
                            const Tensor& rows) {
  ArenaScope arena_scope(*ctx.arena);
  const Tensor arrivals = ctx.arena->New({plan.received, rows.dim(1)});
  AllToAll(ctx, outgoing, plan.send_rows, arrivals, plan.recv_rows);
  Compute(ctx, GatherRows{.x = arrivals, .index = plan.to_slot_order, .y = rows});
}

void TokenExchange::SendBack(Context& ctx, const DispatchPlan& plan, const Tensor& rows,
                             const Tensor& returned) {
  CHECK_EQ(rows.dim(0), plan.received) << rows.ShapeString();
  ArenaScope arena_scope(*ctx.arena);
  const Tensor arrivals = ctx.arena->New({plan.received, rows.dim(1)});
  Compute(ctx, GatherRows{.x = rows, .index = plan.to_arrival_order, .y = arrivals});
  AllToAll(ctx, arrivals, plan.recv_rows, returned, plan.send_rows);
}

void TokenExchange::AllToAll(Context& ctx, Tensor input, const Tensor& send_rows, Tensor output,
                             const Tensor& recv_rows) {
  Profiler::Scope scope(ctx.profiler, "exchange.all_to_all");
  const auto start = std::chrono::steady_clock::now();
  group_.AllToAllV(input, Span(send_rows), output, Span(recv_rows), *ctx.stream);
  // The host reads counts next, and what it waits for here is what nothing hides.
  ctx.stream->Synchronize();
  exposed_seconds_ +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace unipool
