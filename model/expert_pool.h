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
  // Whether a backward computes gate_up again instead of finding it kept.
  bool recompute;
};

class ExpertPool {
 public:
  struct Saved {
    Tensor rows;  // [rows, hidden], the input; borrowed
    // [rows, 2 * ffn]; absent until StartBackward where it is recomputed. Backward overwrites it
    // with its gradient.
    Tensor gate_up;
    Tensor offsets;  // int64 [experts here + 1]; borrowed
  };

  // Experts `owned` (global ids, in slot order) of the pool "model.expert_pools.{g}".
  static ExpertPool Sharded(ParameterList& parameters, int pool, absl::Span<const int> owned,
                            const ExpertShape& shape);
  // The feed-forward network of a dense layer, "model.layers.{l}.mlp", as a pool of one.
  static ExpertPool Dense(ParameterList& parameters, int layer, const ExpertShape& shape);

  int64_t experts() const { return experts_; }  // on this rank

  // Takes the memory of gate_up for that many rows of `dtype` from the arena, where it is kept.
  void Allocate(Context& ctx, int64_t rows, DType dtype, Saved* saved) const;
  // rows [rows, hidden] sorted by slot with bounds `offsets` -> results [rows, hidden]. `saved`
  // is Allocated.
  void Forward(Context& ctx, Tensor rows, Tensor offsets, Tensor results, Saved* saved) const;
  // Recomputes gate_up, where it was not kept, and gives `hidden_grad` [rows, ffn], working memory.
  // Both are new in the arena.
  Tensor StartBackward(Context& ctx, Saved& saved) const;
  // drows [rows, hidden] from dresults. hidden_grad, dresults and saved must stay alive and
  // untouched until Flush.
  void Backward(Context& ctx, const Saved& saved, Tensor dresults, Tensor hidden_grad,
                Tensor drows);
  // Adds the noted weight gradients, in the order they were noted, and forgets them.
  void Flush(Context& ctx);
  int64_t noted_layers() const { return static_cast<int64_t>(gate_up_rows_.size()); }

 private:
  ExpertPool(ParameterList& parameters, const std::vector<std::string>& prefixes,
             ParameterKind kind, const ExpertShape& shape);

  void ComputeGateUp(Context& ctx, const Saved& saved, Tensor gate_up) const;
  // Of all experts: [experts, 2 * ffn, hidden] and [experts, hidden, ffn]. Values of none are
  // of the type and device of `like`.
  Tensor GateUp(const Tensor& like, bool gradient) const;
  Tensor Down(const Tensor& like, bool gradient) const;

  int64_t experts_;
  int64_t hidden_;
  int64_t ffn_;
  bool recompute_;
  const Parameter* first_gate_ = nullptr;  // null where this rank owns no expert
  const Parameter* first_down_ = nullptr;
  std::vector<GroupedRows> gate_up_rows_;  // noted by Backward
  std::vector<GroupedRows> down_rows_;
};

}  // namespace unipool
