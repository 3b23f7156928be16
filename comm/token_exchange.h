// Brings token rows to the ranks that own their experts, and the results back. It knows rows and an
// expert map, not experts. One object, with one set of buffers, serves every layer.
//
// A layer's way:   Plan(map, ids, &plan);  rows = Dispatch(plan, x);
//                  ... experts turn rows into results, in place of or beside them ...
//                  y = Combine(plan, results, gates, &returned)
// and backward:    dresults = CombineBackward(plan, dy, gates, returned, dgates);
//                  ... experts' backward ...;  dx = DispatchBackward(plan, drows)
//
// Rows at the owner are sorted by slot; within a slot by source rank, then by token: the order of
// the global batch, whatever the number of ranks. Dropless: every count may be zero, and one rank
// may get everything. Every rank makes every call, also with no rows at all.
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
  int64_t tokens = 0;
  int64_t top_k = 0;
  Tensor send_index;  // int32 [tokens * k]: the token of each outgoing row; rows by (owner, slot,
                      // token)
  Tensor positions;   // int32 [tokens, k]: the outgoing row of the j-th choice of token t
  // int32 [received rows]: arrival order is by (source, slot, token); row i in slot order is
  // arrival row to_slot_order[i]. Absent with one rank, where nothing travels and both orders are
  // one.
  Tensor to_slot_order;
  Tensor to_arrival_order;  // the inverse
  Tensor offsets;           // int64 [slots + 1]: rows of each of my experts, in slot order
  int64_t received = 0;
  std::vector<int64_t> send_rows;  // [ranks]: rows that go to each; empty with one rank
  std::vector<int64_t> recv_rows;  // [ranks]: rows that come from each; empty with one rank
};

class TokenExchange {
 public:
  // `group` is the expert group; borrowed, outlives this. All calls are of one device.
  explicit TokenExchange(Communicator& group);

  // expert_ids: int32 [tokens, k], each in [0, map.experts()). Exchanges the counts.
  void Plan(Context& ctx, const ExpertMap& map, Tensor expert_ids, DispatchPlan* plan);
  // x [tokens, hidden] -> rows [received, hidden] in slot order, from the arena, of x's type.
  Tensor Dispatch(Context& ctx, const DispatchPlan& plan, Tensor x);
  // results [received, hidden] in slot order -> y[t] = base[t] + sum_j gates[t,j] * result of
  // (t,j), without base where that is absent. Gives in *returned the results as they came back
  // [tokens * k, hidden], for CombineBackward.
  void Combine(Context& ctx, const DispatchPlan& plan, Tensor results, Tensor gates, Tensor base,
               Tensor y, Tensor* returned);
  // dy [tokens, hidden] -> dresults [received, hidden] in slot order, from the arena, and
  // dgates [tokens, k]. Overwrites `returned`.
  Tensor CombineBackward(Context& ctx, const DispatchPlan& plan, Tensor dy, Tensor gates,
                         Tensor returned, Tensor dgates);
  // drows [received, hidden] in slot order -> dx[t] (+)= sum_j drow of (t,j).
  void DispatchBackward(Context& ctx, const DispatchPlan& plan, Tensor drows, Tensor dx,
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
  // Outgoing rows -> arrival order -> the owner's slot order.
  void SendOut(Context& ctx, const DispatchPlan& plan, const Tensor& outgoing, const Tensor& rows);
  // Owner's slot order -> arrival order -> back at the sources.
  void SendBack(Context& ctx, const DispatchPlan& plan, const Tensor& rows, const Tensor& returned);
  void AllToAll(Context& ctx, Tensor input, absl::Span<const int64_t> send_rows, Tensor output,
                absl::Span<const int64_t> recv_rows);
  bool alone() const { return group_.size() == 1; }

  Communicator& group_;
  // Of the plan in the making; members so that a warm Plan allocates nothing. int64.
  MirroredTensor send_counts_;            // [experts] in map order
  MirroredTensor recv_counts_;            // [ranks, slots]
  std::vector<int64_t> send_count_rows_;  // [ranks]: counts that go to each rank
  std::vector<int64_t> recv_count_rows_;
  std::unique_ptr<StreamTimer> timer_;  // null before the first exchange
};

}  // namespace unipool
