#include "model/linear.h"

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

void Linear::Forward(Context& ctx, Tensor x, Tensor y, bool add_to_y) const {
  Compute(ctx, Gemm{.a = x,
                    .b = weight(),
                    .c = y,
                    .transpose_a = false,
                    .transpose_b = true,
                    .accumulate = add_to_y});
}

void Linear::Backward(Context& ctx, Tensor dy, Tensor x, Tensor dx, bool add_to_dx) const {
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

}  // namespace unipool
