#include "model/linear.h"

#include <glog/logging.h>

#include "runtime/ops/bf16_terms.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/gemm.h"

namespace unipool {

Linear::Linear(ParameterList& parameters, const std::vector<Part>& parts, const Settings& settings)
    : first_(nullptr), in_(settings.in) {
  for (const Part& part : parts) {
    const Parameter* added = parameters.Add({.name = part.name,
                                             .shape = {part.out, in_},
                                             .kind = ParameterKind::kReplicated,
                                             .init_std = settings.init_std,
                                             .decay = true,
                                             .precise = settings.precise,
                                             .stacked = first_ != nullptr});
    if (first_ == nullptr) first_ = added;
    out_ += part.out;
  }
}

Tensor Linear::weight() const { return first_->weight.From({out_, in_}); }

Tensor Linear::dweight() const { return first_->grad.From({out_, in_}); }

void Linear::Forward(Context& ctx, const ForwardArgs& args) const {
  if (InTerms(args.x)) {
    CHECK(args.base.absent()) << "a precise weight takes no base with bfloat16 inputs, got "
                              << args.base.ShapeString();
    return ForwardInTerms(ctx, args);
  }
  Compute(ctx, Gemm{.a = args.x,
                    .b = weight(),
                    .c = args.y,
                    .transpose_a = false,
                    .transpose_b = true,
                    .accumulate = !args.base.absent(),
                    .base = args.base});
}

void Linear::Backward(Context& ctx, const BackwardArgs& args) const {
  if (InTerms(args.x)) return BackwardInTerms(ctx, args);
  Compute(ctx, Gemm{.a = args.dy,
                    .b = args.x,
                    .c = dweight(),
                    .transpose_a = true,
                    .transpose_b = false,
                    .accumulate = true});
  Compute(ctx, Gemm{.a = args.dy,
                    .b = weight(),
                    .c = args.dx,
                    .transpose_a = false,
                    .transpose_b = false,
                    .accumulate = args.add_to_dx});
}

// [blocks * out, in], one block per term.
Tensor Linear::WeightTerms(Context& ctx, const Terms& terms, int64_t blocks) const {
  const Tensor split = ctx.arena->New<BFloat16>({blocks * out_, in_});
  Compute(ctx, SplitTerms{.x = weight().From({1, out_ * in_}),
                          .terms = terms,
                          .y = split.From({1, blocks * out_ * in_})});
  return split;
}

// One product of x with all terms of W, so that x is read once.
void Linear::ForwardInTerms(Context& ctx, const ForwardArgs& args) const {
  ArenaScope scope(*ctx.arena);
  const Tensor products = ctx.arena->New({args.x.dim(0), 3 * out_});
  Compute(ctx, Gemm{.a = args.x,
                    .b = WeightTerms(ctx, {0, 1, 2, 0}, 3),
                    .c = products,
                    .transpose_a = false,
                    .transpose_b = true,
                    .accumulate = false});
  Compute(ctx, SumTerms{.x = products, .accumulate = false, .y = args.y});
}

// dx is rounded to bfloat16, so the four largest products of terms are enough:
//   dx = [dy0 dy1 dy2 dy0] [W0; W0; W0; W1]
void Linear::BackwardInTerms(Context& ctx, const BackwardArgs& args) const {
  ArenaScope scope(*ctx.arena);
  const Tensor split = ctx.arena->New<BFloat16>({args.dy.dim(0), 4 * out_});
  Compute(ctx, SplitTerms{.x = args.dy, .terms = {0, 1, 2, 0}, .y = split});
  const Tensor products = ctx.arena->New({4 * out_, in_});
  Compute(ctx, Gemm{.a = split,
                    .b = args.x,
                    .c = products,
                    .transpose_a = true,
                    .transpose_b = false,
                    .accumulate = false});
  Compute(ctx, SumTerms{.x = products.From({1, 4 * out_ * in_}),
                        .accumulate = true,
                        .y = dweight().From({1, out_ * in_})});
  Compute(ctx, Gemm{.a = split,
                    .b = WeightTerms(ctx, {0, 0, 0, 1}, 4),
                    .c = args.dx,
                    .transpose_a = false,
                    .transpose_b = false,
                    .accumulate = args.add_to_dx});
}

}  // namespace unipool
