#include "model/linear.h"

#include <glog/logging.h>

#include "runtime/ops/bf16_terms.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/gemm.h"

namespace unipool {

Linear::Linear(ParameterList& parameters, const std::vector<Part>& parts, int64_t in,
               float init_std, bool precise)
    : first_(nullptr), in_(in) {
  for (const Part& part : parts) {
    const Parameter* added = parameters.Add({.name = part.name,
                                             .shape = {part.out, in},
                                             .kind = ParameterKind::kReplicated,
                                             .init_std = init_std,
                                             .decay = true,
                                             .precise = precise,
                                             .stacked = first_ != nullptr});
    if (first_ == nullptr) first_ = added;
    out_ += part.out;
  }
}

Tensor Linear::weight() const { return first_->weight.From({out_, in_}); }

Tensor Linear::dweight() const { return first_->grad.From({out_, in_}); }

void Linear::Forward(Context& ctx, Tensor x, Tensor base, Tensor y) const {
  if (InTerms(x)) {
    CHECK(base.absent()) << base.ShapeString();
    return ForwardInTerms(ctx, x, y);
  }
  Compute(ctx, Gemm{.a = x,
                    .b = weight(),
                    .c = y,
                    .transpose_a = false,
                    .transpose_b = true,
                    .accumulate = !base.absent(),
                    .base = base});
}

void Linear::Backward(Context& ctx, Tensor dy, Tensor x, Tensor dx, bool add_to_dx) const {
  if (InTerms(x)) return BackwardInTerms(ctx, dy, x, dx, add_to_dx);
  Compute(ctx, Gemm{.a = dy,
                    .b = x,
                    .c = dweight(),
                    .transpose_a = true,
                    .transpose_b = false,
                    .accumulate = true});
  Compute(ctx, Gemm{.a = dy,
                    .b = weight(),
                    .c = dx,
                    .transpose_a = false,
                    .transpose_b = false,
                    .accumulate = add_to_dx});
}

// [blocks * out, in], a block a term.
Tensor Linear::WeightTerms(Context& ctx, const Terms& terms, int64_t blocks) const {
  const Tensor split = ctx.arena->New<BFloat16>({blocks * out_, in_});
  Compute(ctx, SplitTerms{.x = weight().From({1, out_ * in_}),
                          .terms = terms,
                          .y = split.From({1, blocks * out_ * in_})});
  return split;
}

// x goes through one product with all terms of W, so it is read once.
void Linear::ForwardInTerms(Context& ctx, Tensor x, Tensor y) const {
  ArenaScope scope(*ctx.arena);
  const Tensor products = ctx.arena->New({x.dim(0), 3 * out_});
  Compute(ctx, Gemm{.a = x,
                    .b = WeightTerms(ctx, {0, 1, 2, 0}, 3),
                    .c = products,
                    .transpose_a = false,
                    .transpose_b = true,
                    .accumulate = false});
  Compute(ctx, SumTerms{.x = products, .accumulate = false, .y = y});
}

// dx is rounded, so of its products of terms the largest four are enough:
//   dx = [dy0 dy1 dy2 dy0] [W0; W0; W0; W1]
void Linear::BackwardInTerms(Context& ctx, Tensor dy, Tensor x, Tensor dx, bool add_to_dx) const {
  ArenaScope scope(*ctx.arena);
  const Tensor split = ctx.arena->New<BFloat16>({dy.dim(0), 4 * out_});
  Compute(ctx, SplitTerms{.x = dy, .terms = {0, 1, 2, 0}, .y = split});
  const Tensor products = ctx.arena->New({4 * out_, in_});
  Compute(ctx, Gemm{.a = split,
                    .b = x,
                    .c = products,
                    .transpose_a = true,
                    .transpose_b = false,
                    .accumulate = false});
  Compute(ctx, SumTerms{.x = products.From({1, 4 * out_ * in_}),
                        .accumulate = true,
                        .y = dweight().From({1, out_ * in_})});
  Compute(ctx, Gemm{.a = split,
                    .b = WeightTerms(ctx, {0, 0, 0, 1}, 4),
                    .c = dx,
                    .transpose_a = false,
                    .transpose_b = false,
                    .accumulate = add_to_dx});
}

}  // namespace unipool
