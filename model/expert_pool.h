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
#include "comm/expert_map.h"
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
    // [rows, 2 * ffn]; absent until AllocateBackward where it is recomputed. Backward overwrites it
    // with its gradient.
    Tensor gate_up;
    Tensor offsets;  // int64 [experts here + 1]; borrowed
  };
  // What the noted weight gradients need of a backward, [rows, hidden] and [rows, ffn].
  struct Gradients {
    Tensor dresults;  // the gradient of the results; borrowed
    Tensor hidden;    // working memory
  };

  // Experts `owned` (global ids, in slot order) of the pool "model.expert_pools.{g}".
  static ExpertPool Sharded(ParameterList& parameters, int pool, absl::Span<const int> owned,
                            const ExpertShape& shape);
  // The feed-forward network of a dense layer, "model.layers.{l}.mlp", as a pool of one.
  static ExpertPool Dense(ParameterList& parameters, int layer, const ExpertShape& shape);

  int64_t experts() const { return experts_; }  // on this rank

  // All experts here and all rows.
  ExpertPart All(const Tensor& rows) const { return {0, experts_, 0, rows.dim(0)}; }

  // Notes where rows [rows, hidden] will be, sorted by slot with bounds `offsets`, and takes the
  // memory of gate_up from the arena, where it is kept.
  void Allocate(Context& ctx, Tensor rows, Tensor offsets, Saved* saved) const;
  // The part's rows -> their results, of results [rows, hidden]. `saved` is Allocated.
  void Forward(Context& ctx, const ExpertPart& part, Tensor results, const Saved& saved) const;
  // Takes what a backward needs from the arena: gate_up, where it was not kept, and what is
  // returned.
  Gradients AllocateBackward(Context& ctx, Tensor dresults, Saved& saved) const;
  // Computes gate_up again, where it was not kept.
  void Recompute(Context& ctx, const Saved& saved) const;
  // The part's drows, of drows [rows, hidden], from its dresults.
  void Backward(Context& ctx, const ExpertPart& part, const Saved& saved,
                const Gradients& gradients, Tensor drows) const;
  // Notes the weight gradients of a backward whose parts are all done. What `saved` and `gradients`
  // hold must stay alive and untouched until Flush.
  void Note(const Saved& saved, const Gradients& gradients);
  // Adds the noted weight gradients, in the order they were noted, and forgets them.
  void Flush(Context& ctx);
  int64_t noted_layers() const { return static_cast<int64_t>(gate_up_rows_.size()); }

 private:
  ExpertPool(ParameterList& parameters, const std::vector<std::string>& prefixes,
             ParameterKind kind, const ExpertShape& shape);

  // Of the part: gate_up [its rows, 2 * ffn].
  void ComputeGateUp(Context& ctx, const ExpertPart& part, const Saved& saved,
                     Tensor gate_up) const;
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
  std::vector<GroupedRows> gate_up_rows_;  // noted
  std::vector<GroupedRows> down_rows_;
};

}  // namespace unipool
