// The SwiGLU experts of one pool that this rank holds, borrowed by every layer that routes into the
// pool. Vanilla MoE has one such pool per layer; a dense layer has a pool of a single expert that
// every rank holds.
//
// Weight gradients are deferred: Backward computes the gradient of the rows, and
// DeferWeightGradients records the operands of the weight gradients. ComputeDeferred computes them
// for all recorded layers, expert by expert, so that the gradient of an expert is read and written
// once instead of once per layer.
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
  bool recompute;         // recompute gate_up in the backward instead of keeping it
};

// What a layer's backward does with the weight gradients of its pool.
enum class WeightGradients : uint8_t {
  kDefer,    // records them for a later backward
  kCompute,  // computes them and all that are recorded
};

class ExpertPool {
 public:
  struct Saved {
    Tensor rows;  // [rows, hidden], the input; borrowed
    // [rows, 2 * ffn]. If it is recomputed, it is absent until AllocateBackward. Backward
    // overwrites it with its gradient.
    Tensor gate_up;
    Tensor offsets;  // int64 [experts on this rank + 1]; borrowed
  };
  // Operands of the weight gradients that a backward provides.
  struct Gradients {
    Tensor dresults;  // [rows, hidden]: gradient of the results; borrowed
    Tensor hidden;    // [rows, ffn]: scratch, then the activations
  };

  // Experts `owned` (global ids, in slot order) of the pool "model.expert_pools.{pool}".
  static ExpertPool Sharded(ParameterList& parameters, int pool, absl::Span<const int> owned,
                            const ExpertShape& shape);
  // The feed-forward network of a dense layer, "model.layers.{layer}.mlp", as a pool of one expert.
  static ExpertPool Dense(ParameterList& parameters, int layer, const ExpertShape& shape);

  int64_t experts() const { return experts_; }  // on this rank

  // The part that holds every expert of this rank and every row.
  ExpertPart All(const Tensor& rows) const { return {0, experts_, 0, rows.dim(0)}; }

  // Records the input in `saved` and allocates gate_up from the arena if it is kept. rows [rows,
  // hidden] are sorted by slot, with int64 bounds `offsets`; they may be filled later. On a GPU the
  // tensors may be longer than the last bound; nothing is computed for the rows behind it.
  void Allocate(Context& ctx, Tensor rows, Tensor offsets, Saved* saved) const;
  // Computes the part's rows of `results` [rows, hidden]. `saved` is Allocated.
  void Forward(Context& ctx, const ExpertPart& part, Tensor results, const Saved& saved) const;
  // Allocates from the arena what a backward needs: gate_up if it is recomputed, and the scratch
  // memory of the returned Gradients.
  Gradients AllocateBackward(Context& ctx, Tensor dresults, Saved& saved) const;
  // Recomputes gate_up if it was not kept.
  void Recompute(Context& ctx, const Saved& saved) const;
  // Computes the part's rows of `drows` [rows, hidden] from those of gradients.dresults.
  void Backward(Context& ctx, const ExpertPart& part, const Saved& saved,
                const Gradients& gradients, Tensor drows) const;
  // Records the weight gradients of a backward after Backward of all its parts. The tensors of
  // `saved` and `gradients` must stay alive and unchanged until ComputeDeferred.
  void DeferWeightGradients(const Saved& saved, const Gradients& gradients);
  // Adds the recorded weight gradients to the parameters' gradients, in the order in which they
  // were recorded, and clears the record.
  void ComputeDeferred(Context& ctx);
  int64_t deferred_layers() const { return static_cast<int64_t>(gate_up_rows_.size()); }

 private:
  ExpertPool(ParameterList& parameters, const std::vector<std::string>& prefixes,
             ParameterKind kind, const ExpertShape& shape);

  // Computes gate_up [rows of the part, 2 * ffn].
  void ComputeGateUp(Context& ctx, const ExpertPart& part, const Saved& saved,
                     Tensor gate_up) const;
  // Weights of all experts of this rank. Without experts they have the type and device of `like`.
  Tensor GateUpWeights(const Tensor& like) const;  // [experts, 2 * ffn, hidden]
  Tensor DownWeights(const Tensor& like) const;    // [experts, hidden, ffn]

  int64_t experts_;
  int64_t hidden_;
  int64_t ffn_;
  bool recompute_;
  const Parameter* first_gate_ = nullptr;  // null if this rank owns no expert
  const Parameter* first_down_ = nullptr;
  std::vector<GroupedRows> gate_up_rows_;  // operands of the deferred weight gradients, by layer
  std::vector<GroupedRows> down_rows_;
};

}  // namespace unipool
