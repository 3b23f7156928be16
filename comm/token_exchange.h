// Brings token rows to the ranks that own their experts, and the results back. It knows rows and an
// expert map, not experts. One object, with one set of buffers, serves every layer.
//
// Rows travel in the map's chunks, on a stream of their own where there are several, while the
// caller works on the chunks that are here. A layer's way:
//   Plan(map, ids, &plan);
//   Dispatch(plan, x, rows);                     // the caller's, [plan.received, hidden]
//   for each chunk of the plan:
//     Arrive(plan, chunk);                       // its rows can be read
//     ... experts turn rows of plan.part(chunk) into results ...
//     Return(plan, chunk, results, returned);
//   Combine(plan, returned, gates, base, y);
// and backward:
//   CombineBackward(plan, dy, gates, returned, dgates, dresults);
//   for each chunk:  Arrive; ... experts' backward ...; Return(plan, chunk, drows, dreturned);
//   DispatchBackward(plan, dreturned, dx, add);
// Where this rank is alone nothing travels: there is one chunk, and what returns is what the
// experts made, in the same memory. From the start of a way to its end, what the calls take from
// the arena stays in the caller's scope.
//
// Rows at the owner are sorted by slot; within a slot by source rank, then by token: the order of
// the global batch, whatever the number of ranks and of chunks. Dropless: every count may be zero,
// and one rank may get everything. Every rank makes every call, also with no rows at all.
//
// Everything is done where the tensors are. With several ranks the host learns once a Plan how many
// rows go and come, and waits for that on its stream; with one rank it never does.
#pragma once

#include <memory>
#include <vector>

#include "comm/communicator.h"
#include "comm/expert_map.h"
#include "runtime/context.h"
#include "runtime/mirrored_tensor.h"
#include "runtime/stream_timer.h"

namespace unipool {

// Made by Plan. Its Tensors are from the arena, so they live as long as the arena scope that Plan
// was called in. One that is made again keeps its memory of the host.
struct DispatchPlan {
  // What a chunk brings here: rows of a range of slots, which are a range of rows in slot order.
  const ExpertPart& part(int chunk) const { return parts[static_cast<size_t>(chunk)]; }
  int chunks() const { return static_cast<int>(parts.size()); }

  int64_t tokens = 0;
  int64_t top_k = 0;
  Tensor send_index;  // int32 [tokens * k]: the token of each outgoing row; rows by (chunk, owner,
                      // slot, token)
  Tensor positions;   // int32 [tokens, k]: the outgoing row of the j-th choice of token t
  // int32 [received rows]: arrival order is by (chunk, source, slot, token); row i in slot order is
  // arrival row to_slot_order[i]. Absent with one rank, where nothing travels and both orders are
  // one.
  Tensor to_slot_order;
  Tensor to_arrival_order;  // the inverse
  Tensor offsets;           // int64 [slots + 1]: rows of each of my experts, in slot order
  int64_t received = 0;
  std::vector<ExpertPart> parts;    // [chunks]
  std::vector<int64_t> send_rows;   // [chunks, ranks]: rows that go to each; empty with one rank
  std::vector<int64_t> recv_rows;   // [chunks, ranks]: rows that come from each; likewise
  std::vector<int64_t> first_sent;  // [chunks + 1]: rows that go in the chunks before; likewise
};

class TokenExchange {
 public:
  // `group` is the expert group; borrowed, outlives this. All calls are of one device.
  explicit TokenExchange(Communicator& group);

  // expert_ids: int32 [tokens, k], each in [0, map.experts()). Exchanges the counts.
  void Plan(Context& ctx, const ExpertMap& map, Tensor expert_ids, DispatchPlan* plan);

  // Whether nothing travels, as this rank has every expert.
  bool alone() const { return group_.size() == 1; }
  // Room at the owner, [received, hidden] from the arena, for what is [tokens * k, hidden] where
  // the tokens are; of a rank alone, `at_source` itself.
  Tensor AtOwner(Context& ctx, const DispatchPlan& plan, Tensor at_source) const;

  // Starts to bring x [tokens, hidden] to rows [received, hidden] in slot order.
  void Dispatch(Context& ctx, const DispatchPlan& plan, Tensor x, Tensor rows);
  // The chunk's rows of what is being brought are there for work that is enqueued from now on.
  void Arrive(Context& ctx, const DispatchPlan& plan, int chunk);
  // Starts to send the chunk's rows of results [received, hidden] back, to their places in
  // `returned` [tokens * k, hidden].
  void Return(Context& ctx, const DispatchPlan& plan, int chunk, Tensor results, Tensor returned);
  // Waits for all that was sent back; y[t] = base[t] + sum_j gates[t,j] * result of (t,j), without
  // base where that is absent.
  void Combine(Context& ctx, const DispatchPlan& plan, Tensor returned, Tensor gates, Tensor base,
               Tensor y);

  // dgates [tokens, k] from dy [tokens, hidden]; starts to bring the gradients of the results to
  // dresults [received, hidden] in slot order. Overwrites `returned`.
  void CombineBackward(Context& ctx, const DispatchPlan& plan, Tensor dy, Tensor gates,
                       Tensor returned, Tensor dgates, Tensor dresults);
  // Waits for all that was sent back; dx[t] (+)= sum_j drow of (t,j).
  void DispatchBackward(Context& ctx, const DispatchPlan& plan, Tensor dreturned, Tensor dx,
                        bool add_to_dx);

  // Seconds that the stream spent in exchanges, which nothing hid, since the last call. Waits until
  // they are done.
  double TakeExposedSeconds();

 private:
  // Room for the counts of a plan, which grows.
  void MakeRoom(Context& ctx, int64_t experts, int64_t received_counts);
  // Tells every owner how many rows of each of its experts come from here; gives int64 [ranks,
  // slots], where the plan's work is, and fills what the host has to know.
  Tensor ExchangeCounts(Context& ctx, const ExpertMap& map, DispatchPlan* plan);
  void SumRows(const ExpertMap& map, DispatchPlan* plan);
  // Starts the chunks of outgoing rows, which are ready on the caller's stream.
  void SendOut(Context& ctx, const DispatchPlan& plan, const Tensor& outgoing, const Tensor& rows);
  // Where rows travel: the caller's stream where there is one chunk.
  Stream& RoadOf(Context& ctx, const DispatchPlan& plan);
  // Makes the caller's stream wait for an exchange on the road, and times the wait.
  void AwaitRoad(Context& ctx, Event event);
  void AllToAll(Context& ctx, Stream& stream, Tensor input, absl::Span<const int64_t> send_rows,
                Tensor output, absl::Span<const int64_t> recv_rows);

  Communicator& group_;
  // Of the plan in the making; members so that a warm Plan allocates nothing. int64.
  MirroredTensor send_counts_;            // [experts] in map order
  MirroredTensor recv_counts_;            // [ranks, slots]
  std::vector<int64_t> send_count_rows_;  // [ranks]: counts that go to each rank
  std::vector<int64_t> recv_count_rows_;
  std::unique_ptr<StreamTimer> timer_;  // null before the first exchange
  std::unique_ptr<Stream> road_;        // null before the first plan of several chunks

  // Of the way that is being gone.
  Tensor rows_;                 // what is being brought, in slot order
  Tensor arrivals_;             // the same as they arrive; then what is sent back
  std::vector<Event> arrived_;  // [chunks]
  Event returned_;              // the last of those sent back
};

}  // namespace unipool
