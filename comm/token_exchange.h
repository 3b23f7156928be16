// Exchange of token rows between the ranks of an expert group (expert parallelism). Dispatch sends
// the row of each token to the owners of its experts; combine returns the experts' results. The
// exchange handles rows and an expert map; it does not run experts. One object, with one set of
// buffers, serves every layer.
//
// Rows travel in the chunks of the expert map. With several chunks they travel on a communication
// stream, so that the caller computes on one chunk while the next one is in flight. The forward of
// a layer is
//   exchange.Plan(ctx, map, {.ids, .gates}, &plan);
//   TokenTransfer transfer = exchange.Dispatch(ctx, plan, {.x, .rows, .returned});
//   for each chunk of the plan, in ascending order:
//     transfer.WaitChunk(ctx, chunk);            // its rows can be read
//     ... experts compute the results of the rows of plan.part(chunk) ...
//     transfer.SendBack(ctx, chunk, results);
//   exchange.Combine(ctx, std::move(transfer), {.gates, .base, .y});
// and the backward uses the same plan:
//   TokenTransfer transfer = exchange.CombineBackward(ctx, plan, {...});
//   for each chunk:  WaitChunk; ... the experts' backward ...; SendBack(ctx, chunk, drows);
//   exchange.DispatchBackward(ctx, std::move(transfer), {.dx, .add_to_dx});
// With one rank nothing travels: there is one chunk, and the results stay in the memory in which
// the experts wrote them.
//
// Rows at the owner are sorted by slot; within a slot by source rank, then by token. This is the
// order of the global batch, whatever the number of ranks and of chunks. Any count may be zero, and
// one rank may receive every row. Every rank makes every call, also when it has no rows.
//
// A choice whose gate is exactly 0 has no row: nothing is sent to its expert, it adds nothing to y
// and dx, and its dgates is 0. Every other choice has one; there is no capacity limit.
//
// All row data stays on the device of the tensors. With several ranks the host reads the row counts
// once per Plan and waits for them on its stream. With one rank on the CPU it reads them at once.
// With one rank on a GPU it does not wait: DispatchPlan::sent and received are then tokens * k, of
// which only the rows before the last offset exist. The memory of the others is never written, and
// nothing that reads it, such as the experts' products, may use the result. If
// Context::finite_check is set, the host waits there too, so that every row exists.
#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "comm/expert_map.h"
#include "runtime/context.h"
#include "runtime/mirrored_tensor.h"
#include "runtime/stream_timer.h"

namespace unipool {

class TokenExchange;

// The row counts and orders of one layer's exchange, filled by TokenExchange::Plan. Its Tensors are
// from the arena and live as long as the arena scope in which Plan was called. Planning again into
// the same object reuses its host memory.
struct DispatchPlan {
  // The slots of a chunk on this rank, and the rows of those slots in slot order.
  const ExpertPart& part(int chunk) const { return parts[static_cast<size_t>(chunk)]; }
  int chunks() const { return static_cast<int>(parts.size()); }

  int64_t tokens = 0;
  int64_t top_k = 0;
  int64_t sent = 0;   // outgoing rows: choices whose gate is not 0 (or tokens * k, see above)
  Tensor send_index;  // int32 [tokens * k]: the token of each outgoing row; rows by (chunk, owner,
                      // slot, token). kNoRow (row_index.h) behind the last row
  Tensor positions;  // int32 [tokens, k]: the outgoing row of the j-th choice of token t, or kNoRow
  // int32 [received]: arrival order is by (chunk, source, slot, token); row i in slot order is
  // arrival row to_slot_order[i]. Absent with one rank, whose two orders are the same.
  Tensor to_slot_order;
  Tensor to_arrival_order;  // the inverse
  Tensor offsets;           // int64 [slots + 1]: first row of each expert of this rank, by slot
  int64_t received = 0;     // rows that this rank receives; with one rank, as `sent`
  std::vector<ExpertPart> parts;    // [chunks]
  std::vector<int64_t> send_rows;   // [chunks, ranks]: rows sent to each rank; empty with one rank
  std::vector<int64_t> recv_rows;   // [chunks, ranks]: rows received from each; likewise
  std::vector<int64_t> first_sent;  // [chunks + 1]: outgoing rows of the chunks before; likewise

  // Which exchange made the plan, and a number that each Plan changes.
  const TokenExchange* exchange = nullptr;
  int64_t number = 0;
};

// One exchange in flight: rows on their way to the owners, and results on their way back. Made by
// Dispatch (forward) or CombineBackward (backward), consumed by Combine or DispatchBackward. Its
// buffers are from the arena scope in which it was made; they, the plan and the exchange must
// outlive it. Several transfers may be in flight if every rank makes their calls in the same order.
//
// A call out of order ends the process, and so does destroying a transfer that was not consumed:
// the other ranks would wait for it forever.
class TokenTransfer {
 public:
  TokenTransfer(TokenTransfer&& other) noexcept;
  TokenTransfer& operator=(TokenTransfer&&) = delete;
  ~TokenTransfer();

  // Makes work that is enqueued on ctx.stream from now on wait until the chunk's rows are in the
  // receive buffer, in slot order. Once for each chunk, in ascending order.
  void WaitChunk(Context& ctx, int chunk);
  // Starts to send the chunk's rows of `results` [received, hidden], which are ready on ctx.stream,
  // back to their tokens. After WaitChunk, once for each chunk, in ascending order; `results` is
  // the same tensor for all chunks.
  void SendBack(Context& ctx, int chunk, Tensor results);

 private:
  friend class TokenExchange;

  enum class Direction : uint8_t { kForward, kBackward };
  struct State {
    const DispatchPlan* plan;
    int64_t plan_number;
    Direction direction;
    Tensor rows;                      // receive buffer [received, hidden], in slot order
    Tensor returned;                  // [sent, hidden], where results come back
    Tensor arrivals = {};             // [received, hidden] as rows arrive, then as results leave
    int waited = 0;                   // chunks that WaitChunk was called for
    int sent_back = 0;                // chunks that SendBack was called for
    std::vector<Event> arrived = {};  // [chunks]; lent by the exchange, empty with one rank
    Event last_returned = {};         // of the last chunk sent back
  };

  TokenTransfer(TokenExchange& exchange, State state);
  // CHECKs that the transfer is in flight and that its plan was not made again. `call` names the
  // caller in the message.
  void CheckInFlight(const char* call) const;
  void CheckComplete(const char* call, Direction direction, const TokenExchange& exchange) const;

  TokenExchange* exchange_;  // null when consumed
  State state_;
};

class TokenExchange {
 public:
  // `group` is the expert group; borrowed, outlives this. All calls use one device.
  explicit TokenExchange(Communicator& group);
  TokenExchange(const TokenExchange&) = delete;
  TokenExchange& operator=(const TokenExchange&) = delete;

  struct Choices {
    Tensor ids;         // int32 [tokens, k], each in [0, map.experts())
    Tensor gates = {};  // [tokens, k]; absent: every choice has a row
  };
  // Exchanges the counts.
  void Plan(Context& ctx, const ExpertMap& map, const Choices& choices, DispatchPlan* plan);

  // True if this rank owns every expert, so that no row travels.
  bool single_rank() const { return group_.size() == 1; }
  // A tensor for rows at their owner, [received, hidden] from the arena, for rows that are
  // `at_source` [plan.sent, hidden] at their tokens. With one rank it is `at_source`.
  Tensor NewReceiveBuffer(Context& ctx, const DispatchPlan& plan, Tensor at_source) const;

  struct DispatchArgs {
    Tensor x;         // [tokens, hidden]
    Tensor rows;      // out [received, hidden]: the receive buffer, filled chunk by chunk
    Tensor returned;  // out [plan.sent, hidden]: the results that come back; unused with one rank
  };
  // Starts to send rows of x to the owners of their experts.
  [[nodiscard]] TokenTransfer Dispatch(Context& ctx, const DispatchPlan& plan,
                                       const DispatchArgs& args);

  struct CombineArgs {
    Tensor gates;      // [tokens, k]
    Tensor base = {};  // [tokens, hidden], may be y; or absent
    Tensor y;          // out [tokens, hidden]
  };
  // Waits for all results; y[t] = base[t] + sum_j gates[t,j] * (result of token t's j-th expert),
  // without base if it is absent.
  void Combine(Context& ctx, TokenTransfer transfer, const CombineArgs& args);

  struct CombineBackwardArgs {
    Tensor dy;        // [tokens, hidden]
    Tensor gates;     // [tokens, k]
    Tensor returned;  // in: the results as Combine read them. out: gradients of the results; with
                      // several ranks, then the gradients that come back [plan.sent, hidden]
    Tensor dgates;    // out [tokens, k]
    Tensor dresults;  // out [received, hidden]: the receive buffer; `returned` with one rank
  };
  // Computes dgates and starts to send the gradients of the results to the owners.
  [[nodiscard]] TokenTransfer CombineBackward(Context& ctx, const DispatchPlan& plan,
                                              const CombineBackwardArgs& args);

  struct DispatchBackwardArgs {
    Tensor dx;  // out [tokens, hidden]
    bool add_to_dx;
  };
  // Waits for all that was sent back; dx[t] (+)= sum_j (gradient of token t's j-th row).
  void DispatchBackward(Context& ctx, TokenTransfer transfer, const DispatchBackwardArgs& args);

  // Seconds since the last call that the compute stream spent in or waiting for exchanges (exposed
  // communication). Waits until those exchanges are done.
  double ReadAndClearExposedSeconds();

 private:
  friend class TokenTransfer;

  // Grows the count tensors to the sizes of a plan.
  void ReserveCounts(Context& ctx, int64_t experts, int64_t received_counts);
  // Sets the plan's one part and its numbers of rows, with one rank.
  void PlanOneRank(Context& ctx, const ExpertMap& map, bool all_rows, DispatchPlan* plan);
  // Sends each owner the number of rows for each of its experts, and fills the plan's row counts of
  // the host. Returns the received counts, int64 [ranks, slots] on the plan's device.
  Tensor ExchangeCounts(Context& ctx, const ExpertMap& map, DispatchPlan* plan);
  void SumRows(const ExpertMap& map, DispatchPlan* plan);
  void CheckPlan(const DispatchPlan& plan) const;
  // Enqueues the chunks of `outgoing`, which is ready on ctx.stream, and returns their transfer.
  TokenTransfer Start(Context& ctx, Tensor outgoing, TokenTransfer::State state);
  // Waits for the last results and takes back what the transfer borrowed. Returns the results,
  // [sent, hidden] in outgoing order.
  Tensor Finish(Context& ctx, TokenTransfer& transfer);
  // The stream on which rows travel: ctx.stream if there is one chunk.
  Stream& CommStream(Context& ctx, const DispatchPlan& plan);
  // Makes ctx.stream wait for an exchange on the communication stream, and times the wait.
  void WaitForEvent(Context& ctx, Event event);
  void AllToAll(Context& ctx, Stream& stream, Tensor input, absl::Span<const int64_t> send_rows,
                Tensor output, absl::Span<const int64_t> recv_rows);

  Communicator& group_;
  int64_t num_plans_ = 0;
  // Counts of the latest plan, int64; members so that a warm Plan allocates nothing.
  MirroredTensor send_counts_;            // [experts] in map order
  MirroredTensor recv_counts_;            // [ranks, slots]
  std::vector<int64_t> send_count_rows_;  // [ranks]: counts sent to each rank
  std::vector<int64_t> recv_count_rows_;  // [ranks]: counts received from each rank
  std::unique_ptr<StreamTimer> timer_;    // null before the first exchange
  std::unique_ptr<Stream> comm_stream_;   // null before the first transfer of several chunks
  // Event lists that no transfer borrows now, so that a warm transfer allocates nothing.
  std::vector<std::vector<Event>> spare_events_;
};

}  // namespace unipool
