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

constexpr int64_t kMaxRows = std::numeric_limits<int32_t>::max();  // that an index can tell

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
  CHECK_LE(expert_ids.numel(), kMaxRows);
  const int64_t slots = static_cast<int64_t>(map.owned(group_.rank()).size());
  plan->tokens = expert_ids.dim(0);
  plan->top_k = expert_ids.dim(1);
  plan->send_index = ctx.arena->New<int32_t>({expert_ids.numel()});
  plan->positions = ctx.arena->New<int32_t>({plan->tokens, plan->top_k});
  plan->offsets = ctx.arena->New<int64_t>({slots + 1});
  plan->to_slot_order = plan->to_arrival_order = Tensor{};
  MakeRoom(ctx, map.experts(), group_.size() * slots);
  Compute(ctx, SortByExpert{.ids = expert_ids,
                            .order = map.send_order_table(*ctx.stream),
                            .count_order = map.order_table(*ctx.stream),
                            .counts = First(send_counts_, map.experts()),
                            .send_index = plan->send_index,
                            .positions = plan->positions});
  Tensor counts = First(send_counts_, map.experts()).Reshape({1, map.experts()});
  if (alone()) {
    plan->received = expert_ids.numel();
    plan->parts.assign(1, {0, slots, 0, plan->received});
  } else {
    counts = ExchangeCounts(ctx, map, plan);
    CHECK_LE(plan->received, kMaxRows);
    plan->to_slot_order = ctx.arena->New<int32_t>({plan->received});
    plan->to_arrival_order = ctx.arena->New<int32_t>({plan->received});
  }
  Compute(ctx, OrderArrivals{.counts = counts,
                             .chunks = plan->chunks(),
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
  AllToAll(ctx, *ctx.stream, First(send_counts_, map.experts()), send_count_rows_, received,
           recv_count_rows_);
  recv_counts_.Download(ranks * slots, *ctx.stream);
  WaitForHost(*ctx.stream);
  SumRows(map, plan);
  return received.Reshape({ranks, slots});
}

void TokenExchange::SumRows(const ExpertMap& map, DispatchPlan* plan) {
  const int ranks = group_.size(), me = group_.rank(), chunks = map.chunks();
  const int64_t slots = static_cast<int64_t>(map.owned(me).size());
  const int64_t* sent = send_counts_.on_host().as<int64_t>();
  const int64_t* received = recv_counts_.on_host().as<int64_t>();
  plan->send_rows.clear();
  plan->recv_rows.clear();
  plan->first_sent.assign(1, 0);
  plan->parts.clear();
  plan->received = 0;
  int64_t going = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first_slot = map.first_slot(me, chunk), last_slot = map.first_slot(me, chunk + 1);
    const int64_t first_row = plan->received;
    for (int r = 0; r < ranks; ++r) {
      const int64_t* const to = sent + map.first_order(r);
      const int64_t* const from = received + r * slots;
      plan->send_rows.push_back(std::accumulate(to + map.first_slot(r, chunk),
                                                to + map.first_slot(r, chunk + 1), int64_t{0}));
      plan->recv_rows.push_back(std::accumulate(from + first_slot, from + last_slot, int64_t{0}));
      going += plan->send_rows.back();
      plan->received += plan->recv_rows.back();
    }
    plan->first_sent.push_back(going);
    plan->parts.push_back({first_slot, last_slot, first_row, plan->received});
  }
}

Tensor TokenExchange::AtOwner(Context& ctx, const DispatchPlan& plan, Tensor at_source) const {
  if (alone()) return at_source;
  return ctx.arena->Allocate(at_source.dtype, {plan.received, at_source.dim(1)});
}

void TokenExchange::Dispatch(Context& ctx, const DispatchPlan& plan, Tensor x, Tensor rows) {
  Profiler::Scope scope(ctx.profiler, "exchange.dispatch");
  CHECK_EQ(x.rank, 2) << x.ShapeString();
  CHECK_EQ(x.dim(0), plan.tokens) << x.ShapeString();
  const Tensor outgoing =
      alone() ? rows : ctx.arena->Allocate(x.dtype, {plan.tokens * plan.top_k, x.dim(1)});
  Compute(ctx, GatherRows{.x = x, .index = plan.send_index, .y = outgoing});
  SendOut(ctx, plan, outgoing, rows);
}

void TokenExchange::Arrive(Context& ctx, const DispatchPlan& plan, int chunk) {
  if (alone()) return;
  Profiler::Scope scope(ctx.profiler, "exchange.arrive");
  AwaitRoad(ctx, arrived_[static_cast<size_t>(chunk)]);
  const ExpertPart& part = plan.part(chunk);
  Compute(ctx, GatherRows{.x = arrivals_,
                          .index = plan.to_slot_order.Rows(part.first_row, part.last_row),
                          .y = rows_.Rows(part.first_row, part.last_row)});
}

void TokenExchange::Return(Context& ctx, const DispatchPlan& plan, int chunk, Tensor results,
                           Tensor returned) {
  if (alone()) return;
  Profiler::Scope scope(ctx.profiler, "exchange.return");
  CHECK_EQ(results.dim(0), plan.received) << results.ShapeString();
  const ExpertPart& part = plan.part(chunk);
  // The chunk's arrivals have been read.
  const Tensor leaving = arrivals_.Rows(part.first_row, part.last_row);
  Compute(ctx, GatherRows{.x = results,
                          .index = plan.to_arrival_order.Rows(part.first_row, part.last_row),
                          .y = leaving});
  Stream& road = RoadOf(ctx, plan);
  if (&road != ctx.stream) road.Wait(ctx.stream->Record());
  const auto c = static_cast<size_t>(chunk), ranks = static_cast<size_t>(group_.size());
  AllToAll(ctx, road, leaving, absl::MakeConstSpan(plan.recv_rows).subspan(c * ranks, ranks),
           returned.Rows(plan.first_sent[c], plan.first_sent[c + 1]),
           absl::MakeConstSpan(plan.send_rows).subspan(c * ranks, ranks));
  returned_ = road.Record();
}

void TokenExchange::Combine(Context& ctx, const DispatchPlan& plan, Tensor returned, Tensor gates,
                            Tensor base, Tensor y) {
  Profiler::Scope scope(ctx.profiler, "exchange.combine");
  if (!alone()) AwaitRoad(ctx, returned_);
  Compute(ctx,
          CombineRows{
              .rows = returned, .positions = plan.positions, .gates = gates, .base = base, .y = y});
}

void TokenExchange::CombineBackward(Context& ctx, const DispatchPlan& plan, Tensor dy, Tensor gates,
                                    Tensor returned, Tensor dgates, Tensor dresults) {
  Profiler::Scope scope(ctx.profiler, "exchange.combine_backward");
  Compute(ctx, CombineRowsBackward{.dy = dy,
                                   .rows = returned,
                                   .positions = plan.positions,
                                   .gates = gates,
                                   .drows = returned,
                                   .dgates = dgates});
  SendOut(ctx, plan, returned, dresults);
}

void TokenExchange::DispatchBackward(Context& ctx, const DispatchPlan& plan, Tensor dreturned,
                                     Tensor dx, bool add_to_dx) {
  Profiler::Scope scope(ctx.profiler, "exchange.dispatch_backward");
  if (!alone()) AwaitRoad(ctx, returned_);
  Compute(ctx, CombineRows{.rows = dreturned,
                           .positions = plan.positions,
                           .gates = Tensor{},
                           .base = add_to_dx ? dx : Tensor{},
                           .y = dx});
}

double TokenExchange::TakeExposedSeconds() {
  return timer_ == nullptr ? 0.0 : timer_->ReadAndReset();
}

void TokenExchange::SendOut(Context& ctx, const DispatchPlan& plan, const Tensor& outgoing,
                            const Tensor& rows) {
  if (alone()) return;
  rows_ = rows;
  arrivals_ = ctx.arena->Allocate(rows.dtype, {plan.received, rows.dim(1)});
  arrived_.clear();
  Stream& road = RoadOf(ctx, plan);
  if (&road != ctx.stream) road.Wait(ctx.stream->Record());
  const auto ranks = static_cast<size_t>(group_.size());
  for (int chunk = 0; chunk < plan.chunks(); ++chunk) {
    const auto c = static_cast<size_t>(chunk);
    const ExpertPart& part = plan.part(chunk);
    AllToAll(ctx, road, outgoing.Rows(plan.first_sent[c], plan.first_sent[c + 1]),
             absl::MakeConstSpan(plan.send_rows).subspan(c * ranks, ranks),
             arrivals_.Rows(part.first_row, part.last_row),
             absl::MakeConstSpan(plan.recv_rows).subspan(c * ranks, ranks));
    arrived_.push_back(road.Record());
  }
}

Stream& TokenExchange::RoadOf(Context& ctx, const DispatchPlan& plan) {
  if (plan.chunks() == 1) return *ctx.stream;
  if (road_ == nullptr) road_ = Stream::Create(ctx.stream->device(), Stream::Kind::kSide);
  return *road_;
}

void TokenExchange::AwaitRoad(Context& ctx, Event event) {
  if (event.stream == nullptr || event.stream == ctx.stream) return;
  Profiler::Scope scope(ctx.profiler, "exchange.wait");
  timer_->Start(*ctx.stream);
  ctx.stream->Wait(event);
  timer_->Stop(*ctx.stream);
}

void TokenExchange::AllToAll(Context& ctx, Stream& stream, Tensor input,
                             absl::Span<const int64_t> send_rows, Tensor output,
                             absl::Span<const int64_t> recv_rows) {
  if (&stream != ctx.stream) return group_.AllToAllV(input, send_rows, output, recv_rows, stream);
  Profiler::Scope scope(ctx.profiler, "exchange.all_to_all");
  timer_->Start(stream);
  group_.AllToAllV(input, send_rows, output, recv_rows, stream);
  timer_->Stop(stream);
}

}  // namespace unipool
