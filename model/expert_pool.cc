#include "model/expert_pool.h"

#include "absl/strings/str_cat.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/swiglu.h"

namespace unipool {
namespace {

// The weights of matrices that lie one after the other, of which `first` is the first; null without
// experts.
Tensor Stack(const Parameter* first, const Tensor& like, std::initializer_list<int64_t> dims) {
  if (first == nullptr) return Tensor::View(nullptr, like.dtype, dims, like.device);
  return first->weight.From(dims);
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

// The list stores gate and up of an expert side by side, and experts in slot order, so that its
// memory is the stacked operand of the grouped product.
ExpertPool::ExpertPool(ParameterList& parameters, const std::vector<std::string>& prefixes,
                       ParameterKind kind, const ExpertShape& shape)
    : experts_(static_cast<int64_t>(prefixes.size())),
      hidden_(shape.hidden),
      ffn_(shape.ffn),
      recompute_(shape.recompute) {
  Parameter matrix{.name = "",
                   .shape = {ffn_, hidden_},
                   .kind = kind,
                   .init_std = shape.init_std,
                   .decay = true};
  for (const std::string& prefix : prefixes) {
    matrix.name = absl::StrCat(prefix, ".gate_proj.weight");
    matrix.stacked = first_gate_ != nullptr;
    const Parameter* gate = parameters.Add(matrix);
    if (first_gate_ == nullptr) first_gate_ = gate;
    matrix.name = absl::StrCat(prefix, ".up_proj.weight");
    matrix.stacked = true;
    parameters.Add(matrix);
  }
  matrix.shape = {hidden_, ffn_};
  matrix.init_std = shape.output_init_std;
  for (const std::string& prefix : prefixes) {
    matrix.name = absl::StrCat(prefix, ".down_proj.weight");
    matrix.stacked = first_down_ != nullptr;
    const Parameter* down = parameters.Add(matrix);
    if (first_down_ == nullptr) first_down_ = down;
  }
}

Tensor ExpertPool::GateUpWeights(const Tensor& like) const {
  return Stack(first_gate_, like, {experts_, 2 * ffn_, hidden_});
}

Tensor ExpertPool::DownWeights(const Tensor& like) const {
  return Stack(first_down_, like, {experts_, hidden_, ffn_});
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
  const Tensor bounds = BoundsOf(part, saved.offsets);
  Compute(ctx, SwiGluForward{.gate_up = gate_up, .y = hidden, .offsets = bounds});
  Compute(ctx, GroupedGemm{.a = hidden,
                           .weight = ExpertsOf(part, DownWeights(hidden)),
                           .offsets = bounds,
                           .c = RowsOf(part, results),
                           .transpose_weight = true});
}

void ExpertPool::ComputeGateUp(Context& ctx, const ExpertPart& part, const Saved& saved,
                               Tensor gate_up) const {
  Compute(ctx, GroupedGemm{.a = RowsOf(part, saved.rows),
                           .weight = ExpertsOf(part, GateUpWeights(saved.rows)),
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
                           .weight = ExpertsOf(part, DownWeights(hidden)),
                           .offsets = offsets,
                           .c = hidden,
                           .transpose_weight = false});
  // In place: the gradient of gate_up overwrites gate_up, and the recomputed activations overwrite
  // their gradient.
  Compute(
      ctx,
      SwiGluBackward{
          .dy = hidden, .gate_up = gate_up, .dgate_up = gate_up, .y = hidden, .offsets = offsets});
  Compute(ctx, GroupedGemm{.a = gate_up,
                           .weight = ExpertsOf(part, GateUpWeights(gate_up)),
                           .offsets = offsets,
                           .c = RowsOf(part, drows),
                           .transpose_weight = false});
}

void ExpertPool::DeferWeightGradients(const Saved& saved, const Gradients& gradients) {
  gate_up_rows_.push_back({.dy = saved.gate_up, .x = saved.rows, .offsets = saved.offsets});
  down_rows_.push_back({.dy = gradients.dresults, .x = gradients.hidden, .offsets = saved.offsets});
}

void ExpertPool::ComputeDeferred(Context& ctx) {
  if (experts_ > 0) {
    Compute(ctx, GroupedWeightGradient{
                     .layers = gate_up_rows_.data(),
                     .num_layers = deferred_layers(),
                     .dweight = first_gate_->grad.From({experts_, 2 * ffn_, hidden_})});
    Compute(ctx,
            GroupedWeightGradient{.layers = down_rows_.data(),
                                  .num_layers = deferred_layers(),
                                  .dweight = first_down_->grad.From({experts_, hidden_, ffn_})});
  }
  gate_up_rows_.clear();
  down_rows_.clear();
}

}  // namespace unipool
