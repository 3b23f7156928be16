#include "model/expert_pool.h"

#include "absl/strings/str_cat.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/swiglu.h"

namespace unipool {
namespace {

const Parameter* AddMatrix(ParameterList& parameters, const std::string& name, ParameterKind kind,
                           int64_t out, int64_t in, float init_std, bool stacked) {
  return parameters.Add({.name = name,
                         .shape = {out, in},
                         .kind = kind,
                         .init_std = init_std,
                         .decay = true,
                         .stacked = stacked});
}

// `first` is the first of matrices that lie one after the other; null without experts.
Tensor Stack(const Parameter* first, bool gradient, const Tensor& like,
             std::initializer_list<int64_t> dims) {
  if (first == nullptr) return Tensor::View(nullptr, like.dtype, dims, like.device);
  return (gradient ? first->grad : first->weight).From(dims);
}

Tensor RowsOf(const ExpertPart& part, const Tensor& all) {
  return all.Rows(part.first_row, part.last_row);
}

Tensor ExpertsOf(const ExpertPart& part, const Tensor& all) {
  return all.Rows(part.first_slot, part.last_slot);
}

Tensor BoundsOf(const ExpertPart& part, const Tensor& offsets) {
  return offsets.Rows(part.first_slot, part.last_slot + 1);
}

}  // namespace

ExpertPool ExpertPool::Sharded(ParameterList& parameters, int pool, absl::Span<const int> owned,
                               const ExpertShape& shape) {
  std::vector<std::string> prefixes;
  for (const int expert : owned) {
    prefixes.push_back(absl::StrCat("model.expert_pools.", pool, ".experts.", expert));
  }
  return ExpertPool(parameters, prefixes, ParameterKind::kExpert, shape);
}

ExpertPool ExpertPool::Dense(ParameterList& parameters, int layer, const ExpertShape& shape) {
  return ExpertPool(parameters, {absl::StrCat("model.layers.", layer, ".mlp")},
                    ParameterKind::kReplicated, shape);
}

// Gate and up of an expert lie side by side, and experts in slot order, so that the list's memory
// is the stacked operand of the grouped product.
ExpertPool::ExpertPool(ParameterList& parameters, const std::vector<std::string>& prefixes,
                       ParameterKind kind, const ExpertShape& shape)
    : experts_(static_cast<int64_t>(prefixes.size())),
      hidden_(shape.hidden),
      ffn_(shape.ffn),
      recompute_(shape.recompute) {
  for (const std::string& prefix : prefixes) {
    const Parameter* gate = AddMatrix(parameters, absl::StrCat(prefix, ".gate_proj.weight"), kind,
                                      ffn_, hidden_, shape.init_std, first_gate_ != nullptr);
    AddMatrix(parameters, absl::StrCat(prefix, ".up_proj.weight"), kind, ffn_, hidden_,
              shape.init_std, true);
    if (first_gate_ == nullptr) first_gate_ = gate;
  }
  for (const std::string& prefix : prefixes) {
    const Parameter* down = AddMatrix(parameters, absl::StrCat(prefix, ".down_proj.weight"), kind,
                                      hidden_, ffn_, shape.output_init_std, first_down_ != nullptr);
    if (first_down_ == nullptr) first_down_ = down;
  }
}

Tensor ExpertPool::GateUp(const Tensor& like, bool gradient) const {
  return Stack(first_gate_, gradient, like, {experts_, 2 * ffn_, hidden_});
}

Tensor ExpertPool::Down(const Tensor& like, bool gradient) const {
  return Stack(first_down_, gradient, like, {experts_, hidden_, ffn_});
}

void ExpertPool::Allocate(Context& ctx, Tensor rows, Tensor offsets, Saved* saved) const {
  saved->rows = rows;
  saved->offsets = offsets;
  if (!recompute_) saved->gate_up = ctx.arena->Allocate(rows.dtype, {rows.dim(0), 2 * ffn_});
}

void ExpertPool::Forward(Context& ctx, const ExpertPart& part, Tensor results,
                         const Saved& saved) const {
  ArenaScope scope(*ctx.arena);
  const DType dtype = saved.rows.dtype;
  const int64_t rows = part.last_row - part.first_row;
  const Tensor gate_up =
      recompute_ ? ctx.arena->Allocate(dtype, {rows, 2 * ffn_}) : RowsOf(part, saved.gate_up);
  const Tensor hidden = ctx.arena->Allocate(dtype, {rows, ffn_});
  ComputeGateUp(ctx, part, saved, gate_up);
  Compute(ctx, SwiGluForward{.gate_up = gate_up, .y = hidden});
  Compute(ctx, GroupedGemm{.a = hidden,
                           .weight = ExpertsOf(part, Down(hidden, false)),
                           .offsets = BoundsOf(part, saved.offsets),
                           .c = RowsOf(part, results),
                           .transpose_weight = true});
}

void ExpertPool::ComputeGateUp(Context& ctx, const ExpertPart& part, const Saved& saved,
                               Tensor gate_up) const {
  Compute(ctx, GroupedGemm{.a = RowsOf(part, saved.rows),
                           .weight = ExpertsOf(part, GateUp(saved.rows, false)),
                           .offsets = BoundsOf(part, saved.offsets),
                           .c = gate_up,
                           .transpose_weight = true});
}

ExpertPool::Gradients ExpertPool::AllocateBackward(Context& ctx, Tensor dresults,
                                                   Saved& saved) const {
  const DType dtype = saved.rows.dtype;
  const int64_t rows = saved.rows.dim(0);
  if (recompute_) saved.gate_up = ctx.arena->Allocate(dtype, {rows, 2 * ffn_});
  return {.dresults = dresults, .hidden = ctx.arena->Allocate(dtype, {rows, ffn_})};
}

void ExpertPool::Recompute(Context& ctx, const Saved& saved) const {
  if (recompute_) ComputeGateUp(ctx, All(saved.rows), saved, saved.gate_up);
}

void ExpertPool::Backward(Context& ctx, const ExpertPart& part, const Saved& saved,
                          const Gradients& gradients, Tensor drows) const {
  const Tensor hidden = RowsOf(part, gradients.hidden), gate_up = RowsOf(part, saved.gate_up);
  const Tensor offsets = BoundsOf(part, saved.offsets);
  Compute(ctx, GroupedGemm{.a = RowsOf(part, gradients.dresults),
                           .weight = ExpertsOf(part, Down(hidden, false)),
                           .offsets = offsets,
                           .c = hidden,
                           .transpose_weight = false});
  // The gradient takes the place of gate_up, and the recomputed activation that of its own
  // gradient.
  Compute(ctx, SwiGluBackward{.dy = hidden, .gate_up = gate_up, .dgate_up = gate_up, .y = hidden});
  Compute(ctx, GroupedGemm{.a = gate_up,
                           .weight = ExpertsOf(part, GateUp(gate_up, false)),
                           .offsets = offsets,
                           .c = RowsOf(part, drows),
                           .transpose_weight = false});
}

void ExpertPool::Note(const Saved& saved, const Gradients& gradients) {
  gate_up_rows_.push_back({.dy = saved.gate_up, .x = saved.rows, .offsets = saved.offsets});
  down_rows_.push_back({.dy = gradients.dresults, .x = gradients.hidden, .offsets = saved.offsets});
}

void ExpertPool::Flush(Context& ctx) {
  if (experts_ > 0) {
    Compute(ctx, GroupedWeightGradient{.layers = gate_up_rows_.data(),
                                       .num_layers = noted_layers(),
                                       .dweight = GateUp({}, true)});
    Compute(ctx, GroupedWeightGradient{.layers = down_rows_.data(),
                                       .num_layers = noted_layers(),
                                       .dweight = Down({}, true)});
  }
  gate_up_rows_.clear();
  down_rows_.clear();
}

}  // namespace unipool
