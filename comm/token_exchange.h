// Brings token rows to the ranks that own their experts, and the results back. It knows rows and an
// expert map, not experts. One object, with one set of buffers, serves every layer.
//
// A layer's way:   plan = Plan(map, ids);  rows = Dispatch(plan, x);
//                  ... experts turn rows into results, in place of or beside them ...
//                  y = Combine(plan, results, gates, &returned)
// and backward:    dresults = CombineBackward(plan, dy, gates, returned, dgates);
//                  ... experts' backward ...;  dx = DispatchBackward(plan, drows)
//
// Rows at the owner are sorted by slot; within a slot by source rank, then by token: the order of
// the global batch, whatever the number of ranks. Dropless: every count may be zero, and one rank
// may get everything. Every rank makes every call, also with no rows at all.
#pragma once

#include <vector>

#include "comm/communicator.h"
#include "comm/expert_map.h"
#include "runtime/context.h"

namespace unipool {

// Made by Plan from the arena, so it lives as long as the arena scope it was made in.
struct DispatchPlan {
  int64_t tokens = 0;
  int64_t top_k = 0;
  Tensor send_index;  // int32 [tokens * k]: the token of each outgoing row; rows by (owner, slot,
                      // token)
  Tensor positions;   // int32 [tokens, k]: the outgoing row of the j-th choice of token t
  Tensor send_rows;   // int64 [ranks], host: rows that go to each rank
  Tensor recv_rows;   // int64 [ranks], host: rows that come from each rank
  // int32 [received rows]: arrival order is by (source, slot, token); row i in slot order is
  // arrival row to_slot_order[i]. Absent with one rank, where nothing travels and both orders are
  // one.
  Tensor to_slot_order;
  Tensor to_arrival_order;  // the inverse
  Tensor offsets;           // int64 [slots + 1], host: rows of each of my experts, in slot order
  int64_t received = 0;
};

class TokenExchange {
 public:
  // `group` is the expert group; borrowed, outlives this.
  explicit TokenExchange(Communicator& group);

  // expert_ids: int32 [tokens, k], each in [0, map.experts()). Exchanges the counts.
  DispatchPlan Plan(Context& ctx, const ExpertMap& map, Tensor expert_ids);
  // x [tokens, hidden] -> rows [received, hidden] in slot order, from the arena.
  Tensor Dispatch(Context& ctx, const DispatchPlan& plan, Tensor x);
  // results [received, hidden] in slot order -> y[t] (+)= sum_j gates[t,j] * result of (t,j).
  // Gives in *returned the results as they came back [tokens * k, hidden], for CombineBackward.
  void Combine(Context& ctx, const DispatchPlan& plan, Tensor results, Tensor gates, Tensor y,
               bool add_to_y, Tensor* returned);
  // dy [tokens, hidden] -> dresults [received, hidden] in slot order, from the arena, and
  // dgates [tokens, k]. Overwrites `returned`.
  Tensor CombineBackward(Context& ctx, const DispatchPlan& plan, Tensor dy, Tensor gates,
                         Tensor returned, Tensor dgates);
  // drows [received, hidden] in slot order -> dx[t] (+)= sum_j drow of (t,j).
  void DispatchBackward(Context& ctx, const DispatchPlan& plan, Tensor drows, Tensor dx,
                        bool add_to_dx);

  // Seconds spent in exchanges that nothing hid, since the last call.
  double TakeExposedSeconds();

 private:
  // Fills send_index, positions and send_rows, and counts rows of each expert in map order.
  void SortByExpert(const ExpertMap& map, const Tensor& expert_ids, DispatchPlan& plan);
  // Tells every owner how many rows of each of its experts come from here.
  void ExchangeCounts(Context& ctx, const ExpertMap& map, DispatchPlan& plan);
  // Fills to_slot_order and to_arrival_order.
  void OrderArrivals(int64_t slots, DispatchPlan& plan);
  // Outgoing rows -> arrival order -> the owner's slot order.
  void SendOut(Context& ctx, const DispatchPlan& plan, const Tensor& outgoing, const Tensor& rows);
  void AllToAll(Context& ctx, Tensor input, const Tensor& send_rows, Tensor output,
                const Tensor& recv_rows);
  // Owner's slot order -> arrival order -> back at the sources.
  void SendBack(Context& ctx, const DispatchPlan& plan, const Tensor& rows, const Tensor& returned);
  bool alone() const { return group_.size() == 1; }

  Communicator& group_;
  // Of the plan in the making; members so that a warm Plan allocates nothing.
  std::vector<int64_t> send_counts_;      // [experts] in map order
  std::vector<int64_t> recv_counts_;      // [ranks, slots]
  std::vector<int64_t> next_;             // where the next row of an expert goes
  std::vector<int64_t> send_count_rows_;  // [ranks]: counts that go to each rank
  std::vector<int64_t> recv_count_rows_;
  double exposed_seconds_ = 0;
};

}  // namespace unipool
