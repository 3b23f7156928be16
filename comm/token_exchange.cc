#include "comm/token_exchange.h"

#include <glog/logging.h>

#include <algorithm>
#include <exception>
#include <limits>
#include <numeric>
#include <utility>

#include "runtime/ops/compute.h"
#include "runtime/ops/expert_order.h"
#include "runtime/ops/permute.h"

namespace unipool {
namespace {

constexpr int64_t kMaxRows = std::numeric_limits<int32_t>::max();  // row indices are int32

Tensor First(const MirroredTensor& counts, int64_t size) {
  return counts.on_device().Rows(0, size);
}

}  // namespace

TokenExchange::TokenExchange(Communicator& group) : group_(group) {}

void TokenExchange::Plan(Context& ctx, const ExpertMap& map, const Choices& choices,
                         DispatchPlan* plan) {
  Profiler::Scope scope(ctx.profiler, "exchange.plan");
  const Tensor& ids = choices.ids;
  CHECK_EQ(ids.rank, 2) << ids.ShapeString();
  CHECK_EQ(map.ranks(), group_.size()) << "ranks of the expert map and of the expert group";
  CHECK_LE(ids.numel(), kMaxRows);
  const int64_t slots = static_cast<int64_t>(map.owned(group_.rank()).size());
  plan->exchange = this;
  plan->number = ++num_plans_;
  plan->tokens = ids.dim(0);
  plan->top_k = ids.dim(1);
  plan->send_index = ctx.arena->New<int32_t>({ids.numel()});
  plan->positions = ctx.arena->New<int32_t>({plan->tokens, plan->top_k});
  plan->offsets = ctx.arena->New<int64_t>({slots + 1});
  plan->to_slot_order = plan->to_arrival_order = Tensor{};
  ReserveCounts(ctx, map.experts(), group_.size() * slots);
  Compute(ctx, SortByExpert{.ids = ids,
                            .gates = choices.gates,
                            .order = map.send_order_table(*ctx.stream),
                            .count_order = map.order_table(*ctx.stream),
                            .counts = First(send_counts_, map.experts()),
                            .send_index = plan->send_index,
                            .positions = plan->positions});
  Tensor counts = First(send_counts_, map.experts()).Reshape({1, map.experts()});
  if (single_rank()) {
    PlanOneRank(ctx, map, choices.gates.absent(), plan);
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

void TokenExchange::PlanOneRank(Context& ctx, const ExpertMap& map, bool all_rows,
                                DispatchPlan* plan) {
  plan->sent = plan->tokens * plan->top_k;
  const bool on_cpu = ctx.stream->device() == Device{};
  if (!all_rows && (on_cpu || ctx.finite_check != nullptr)) {
    send_counts_.DownloadNow(*ctx.stream);
    const int64_t* counts = send_counts_.on_host().as<int64_t>();
    plan->sent = std::accumulate(counts, counts + map.experts(), int64_t{0});
  }
  plan->received = plan->sent;
  plan->parts.assign(1, {0, map.experts(), 0, plan->received});
}

void TokenExchange::ReserveCounts(Context& ctx, int64_t experts, int64_t received_counts) {
  const auto grow = [&](MirroredTensor& counts, int64_t size) {
    if (counts.size() >= size) return;
    ctx.stream->Synchronize();  // the old memory may still be in use
    absl::StatusOr<MirroredTensor> larger =
        MirroredTensor::Create(ctx.stream->device(), DType::kInt64, size);
    CHECK(larger.ok()) << larger.status();
    counts = *std::move(larger);
  };
  grow(send_counts_, std::max<int64_t>(experts, 1));
  if (!single_rank()) grow(recv_counts_, std::max<int64_t>(received_counts, 1));
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
  int64_t sent_rows = 0;
  for (int chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first_slot = map.first_slot(me, chunk), last_slot = map.first_slot(me, chunk + 1);
    const int64_t first_row = plan->received;
    for (int r = 0; r < ranks; ++r) {
      const int64_t* const to = sent + map.first_order(r);
      const int64_t* const from = received + r * slots;
      plan->send_rows.push_back(std::accumulate(to + map.first_slot(r, chunk),
                                                to + map.first_slot(r, chunk + 1), int64_t{0}));
      plan->recv_rows.push_back(std::accumulate(from + first_slot, from + last_slot, int64_t{0}));
      sent_rows += plan->send_rows.back();
      plan->received += plan->recv_rows.back();
    }
    plan->first_sent.push_back(sent_rows);
    plan->parts.push_back({first_slot, last_slot, first_row, plan->received});
  }
  plan->sent = sent_rows;
}

Tensor TokenExchange::NewReceiveBuffer(Context& ctx, const DispatchPlan& plan,
                                       Tensor at_source) const {
  if (single_rank()) return at_source;
  return ctx.arena->Allocate(at_source.dtype, {plan.received, at_source.dim(1)});
}

TokenTransfer TokenExchange::Dispatch(Context& ctx, const DispatchPlan& plan,
                                      const DispatchArgs& args) {
  Profiler::Scope scope(ctx.profiler, "exchange.dispatch");
  CheckPlan(plan);
  const Tensor& x = args.x;
  CHECK_EQ(x.rank, 2) << x.ShapeString();
  CHECK_EQ(x.dim(0), plan.tokens) << x.ShapeString();
  const Tensor outgoing =
      single_rank() ? args.rows : ctx.arena->Allocate(x.dtype, {plan.sent, x.dim(1)});
  Compute(ctx, GatherRows{.x = x, .index = plan.send_index.Rows(0, plan.sent), .y = outgoing});
  return Start(ctx, outgoing,
               {.plan = &plan,
                .plan_number = plan.number,
                .direction = TokenTransfer::Direction::kForward,
                .rows = args.rows,
                .returned = args.returned});
}

void TokenExchange::Combine(Context& ctx, TokenTransfer transfer, const CombineArgs& args) {
  Profiler::Scope scope(ctx.profiler, "exchange.combine");
  transfer.CheckComplete("Combine", TokenTransfer::Direction::kForward, *this);
  const Tensor positions = transfer.state_.plan->positions;
  Compute(ctx, CombineRows{.rows = Finish(ctx, transfer),
                           .positions = positions,
                           .gates = args.gates,
                           .base = args.base,
                           .y = args.y});
}

TokenTransfer TokenExchange::CombineBackward(Context& ctx, const DispatchPlan& plan,
                                             const CombineBackwardArgs& args) {
  Profiler::Scope scope(ctx.profiler, "exchange.combine_backward");
  CheckPlan(plan);
  CHECK(!single_rank() || args.dresults.data == args.returned.data)
      << "with one rank, dresults must be the tensor `returned`";
  Compute(ctx, CombineRowsBackward{.dy = args.dy,
                                   .rows = args.returned,
                                   .positions = plan.positions,
                                   .gates = args.gates,
                                   .drows = args.returned,
                                   .dgates = args.dgates});
  return Start(ctx, args.returned,
               {.plan = &plan,
                .plan_number = plan.number,
                .direction = TokenTransfer::Direction::kBackward,
                .rows = args.dresults,
                .returned = args.returned});
}

void TokenExchange::DispatchBackward(Context& ctx, TokenTransfer transfer,
                                     const DispatchBackwardArgs& args) {
  Profiler::Scope scope(ctx.profiler, "exchange.dispatch_backward");
  transfer.CheckComplete("DispatchBackward", TokenTransfer::Direction::kBackward, *this);
  const Tensor positions = transfer.state_.plan->positions;
  Compute(ctx, CombineRows{.rows = Finish(ctx, transfer),
                           .positions = positions,
                           .gates = Tensor{},
                           .base = args.add_to_dx ? args.dx : Tensor{},
                           .y = args.dx});
}

double TokenExchange::ReadAndClearExposedSeconds() {
  return timer_ == nullptr ? 0.0 : timer_->ReadAndReset();
}

void TokenExchange::CheckPlan(const DispatchPlan& plan) const {
  CHECK(plan.exchange == this)
      << "the plan is not of this exchange; call Plan of the same TokenExchange first";
}

TokenTransfer TokenExchange::Start(Context& ctx, Tensor outgoing, TokenTransfer::State state) {
  const DispatchPlan& plan = *state.plan;
  if (single_rank()) return TokenTransfer(*this, std::move(state));
  state.arrivals = ctx.arena->Allocate(state.rows.dtype, {plan.received, state.rows.dim(1)});
  if (!spare_events_.empty()) {
    state.arrived = std::move(spare_events_.back());
    spare_events_.pop_back();
  }
  Stream& stream = CommStream(ctx, plan);
  if (&stream != ctx.stream) stream.Wait(ctx.stream->Record());
  const auto ranks = static_cast<size_t>(group_.size());
  for (int chunk = 0; chunk < plan.chunks(); ++chunk) {
    const auto c = static_cast<size_t>(chunk);
    const ExpertPart& part = plan.part(chunk);
    AllToAll(ctx, stream, outgoing.Rows(plan.first_sent[c], plan.first_sent[c + 1]),
             absl::MakeConstSpan(plan.send_rows).subspan(c * ranks, ranks),
             state.arrivals.Rows(part.first_row, part.last_row),
             absl::MakeConstSpan(plan.recv_rows).subspan(c * ranks, ranks));
    state.arrived.push_back(stream.Record());
  }
  return TokenTransfer(*this, std::move(state));
}

Tensor TokenExchange::Finish(Context& ctx, TokenTransfer& transfer) {
  TokenTransfer::State& state = transfer.state_;
  if (!single_rank()) {
    WaitForEvent(ctx, state.last_returned);
    state.arrived.clear();
    spare_events_.push_back(std::move(state.arrived));
  }
  transfer.exchange_ = nullptr;
  return state.returned;
}

Stream& TokenExchange::CommStream(Context& ctx, const DispatchPlan& plan) {
  if (plan.chunks() == 1) return *ctx.stream;
  if (comm_stream_ == nullptr) {
    comm_stream_ = Stream::Create(ctx.stream->device(), Stream::Kind::kSide);
  }
  return *comm_stream_;
}

void TokenExchange::WaitForEvent(Context& ctx, Event event) {
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

TokenTransfer::TokenTransfer(TokenExchange& exchange, State state)
    : exchange_(&exchange), state_(std::move(state)) {}

TokenTransfer::TokenTransfer(TokenTransfer&& other) noexcept
    : exchange_(std::exchange(other.exchange_, nullptr)), state_(std::move(other.state_)) {}

TokenTransfer::~TokenTransfer() {
  if (exchange_ == nullptr || std::uncaught_exceptions() > 0) return;
  LOG(FATAL) << "a token transfer was destroyed in flight (" << state_.sent_back << " of "
             << state_.plan->chunks()
             << " chunks sent back); pass it to Combine or DispatchBackward";
}

void TokenTransfer::WaitChunk(Context& ctx, int chunk) {
  CheckInFlight("WaitChunk");
  const DispatchPlan& plan = *state_.plan;
  CHECK(chunk == state_.waited && chunk < plan.chunks())
      << "WaitChunk(" << chunk << ") after " << state_.waited << " of " << plan.chunks()
      << " chunks; wait for each chunk once, in ascending order";
  ++state_.waited;
  if (exchange_->single_rank()) return;
  Profiler::Scope scope(ctx.profiler, "exchange.arrive");
  exchange_->WaitForEvent(ctx, state_.arrived[static_cast<size_t>(chunk)]);
  const ExpertPart& part = plan.part(chunk);
  Compute(ctx, GatherRows{.x = state_.arrivals,
                          .index = plan.to_slot_order.Rows(part.first_row, part.last_row),
                          .y = state_.rows.Rows(part.first_row, part.last_row)});
}

void TokenTransfer::SendBack(Context& ctx, int chunk, Tensor results) {
  CheckInFlight("SendBack");
  const DispatchPlan& plan = *state_.plan;
  CHECK_LT(chunk, state_.waited) << "SendBack(" << chunk << ") before WaitChunk(" << chunk << ")";
  CHECK_EQ(chunk, state_.sent_back)
      << "SendBack(" << chunk << ") after " << state_.sent_back << " of " << plan.chunks()
      << " chunks; send each chunk back once, in ascending order";
  CHECK_EQ(results.dim(0), plan.received) << results.ShapeString();
  ++state_.sent_back;
  if (exchange_->single_rank()) {
    state_.returned = results;
    return;
  }
  Profiler::Scope scope(ctx.profiler, "exchange.return");
  const ExpertPart& part = plan.part(chunk);
  // The chunk's arrivals have been read, so their memory holds the results that leave.
  const Tensor leaving = state_.arrivals.Rows(part.first_row, part.last_row);
  Compute(ctx, GatherRows{.x = results,
                          .index = plan.to_arrival_order.Rows(part.first_row, part.last_row),
                          .y = leaving});
  Stream& stream = exchange_->CommStream(ctx, plan);
  if (&stream != ctx.stream) stream.Wait(ctx.stream->Record());
  const auto c = static_cast<size_t>(chunk);
  const auto ranks = static_cast<size_t>(exchange_->group_.size());
  exchange_->AllToAll(ctx, stream, leaving,
                      absl::MakeConstSpan(plan.recv_rows).subspan(c * ranks, ranks),
                      state_.returned.Rows(plan.first_sent[c], plan.first_sent[c + 1]),
                      absl::MakeConstSpan(plan.send_rows).subspan(c * ranks, ranks));
  state_.last_returned = stream.Record();
}

void TokenTransfer::CheckInFlight(const char* call) const {
  CHECK(exchange_ != nullptr) << call
                              << " of a transfer that was consumed or moved from; start a new one";
  CHECK_EQ(state_.plan->number, state_.plan_number)
      << call << ": the plan was made again while this transfer is in flight; use a plan for each "
      << "transfer in flight";
}

void TokenTransfer::CheckComplete(const char* call, Direction direction,
                                  const TokenExchange& exchange) const {
  CheckInFlight(call);
  CHECK(exchange_ == &exchange) << call << " of a transfer that another exchange started";
  CHECK(state_.direction == direction)
      << call << " of a transfer of the other direction; Combine completes Dispatch, and "
      << "DispatchBackward completes CombineBackward";
  CHECK_EQ(state_.sent_back, state_.plan->chunks()) << call << " before SendBack of every chunk";
}

}  // namespace unipool
