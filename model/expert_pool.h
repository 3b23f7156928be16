// The SwiGLU experts of one pool that live on this rank, borrowed by every layer that routes into
// the pool. Vanilla MoE is one such pool a layer; a dense layer is one with a single expert that
// every rank holds.
//
// Weight gradients may wait: Backward gives the gradient of the rows at once and notes what the
// weight gradients need; Flush then runs them for all noted layers, expert by expert, so that an
// expert's gradient is read and written once instead of once a layer.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "model/parameter.h"
#include "runtime/context.h"
#include "runtime/ops/grouped_gemm.h"

namespace unipool {

struct ExpertShape {
  int64_t hidden;
  int64_t ffn;
  float init_std;         // gate and up projections
  float output_init_std;  // down projection
};

class ExpertPool {
 public:
  struct Saved {
    Tensor rows;     // [rows, hidden], the input; borrowed
    Tensor gate_up;  // [rows, 2 * ffn]; Backward overwrites it with its gradient
    Tensor offsets;  // int64 [experts here + 1]; borrowed
  };

  // Experts `owned` (global ids, in slot order) of the pool "model.expert_pools.{g}".
  static ExpertPool Sharded(ParameterList& parameters, int pool, absl::Span<const int> owned,
                            const ExpertShape& shape);
  // The feed-forward network of a dense layer, "model.layers.{l}.mlp", as a pool of one.
  static ExpertPool Dense(ParameterList& parameters, int layer, const ExpertShape& shape);

  int64_t experts() const { return experts_; }  // on this rank

  // rows [rows, hidden] sorted by slot with bounds `offsets` -> results [rows, hidden].
  void Forward(Context& ctx, Tensor rows, Tensor offsets, Tensor results, Saved* saved) const;
  // drows [rows, hidden] from dresults. `hidden_grad` [rows, ffn] is working memory. It, dresults
  // and saved must stay alive and untouched until Flush.
  void Backward(Context& ctx, const Saved& saved, Tensor dresults, Tensor hidden_grad,
                Tensor drows);
  // Adds the noted weight gradients, in the order they were noted, and forgets them.
  void Flush(Context& ctx);
  int64_t noted_layers() const { return static_cast<int64_t>(gate_up_rows_.size()); }

 private:
  ExpertPool(ParameterList& parameters, const std::vector<std::string>& prefixes,
             ParameterKind kind, const ExpertShape& shape);

  Tensor GateUp(bool gradient) const;  // [experts, 2 * ffn, hidden]
  Tensor Down(bool gradient) const;    // [experts, hidden, ffn]

  int64_t experts_;
  int64_t hidden_;
  int64_t ffn_;
  const Parameter* first_gate_ = nullptr;  // null where this rank owns no expert
  const Parameter* first_down_ = nullptr;
  std::vector<GroupedRows> gate_up_rows_;  // noted by Backward
  std::vector<GroupedRows> down_rows_;
};

}  // namespace unipool
