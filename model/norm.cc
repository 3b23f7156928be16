#include "model/norm.h"

#include "runtime/ops/compute.h"
#include "runtime/ops/rms_norm.h"

namespace unipool {

Norm::Norm(ParameterList& parameters, const std::string& name, int64_t hidden, float eps)
    : weight_(parameters.Add({.name = name,
                              .shape = {hidden},
                              .kind = ParameterKind::kReplicated,
                              .init_std = 0,
                              .decay = false})),
      eps_(eps) {}

void Norm::Forward(Context& ctx, Tensor x, Tensor y, Tensor rstd) const {
  Compute(ctx,
          RmsNormForward{.x = x, .weight = weight_->weight, .eps = eps_, .y = y, .rstd = rstd});
}

void Norm::Backward(Context& ctx, Tensor dy, Tensor x, Tensor rstd, Tensor dx,
                    bool add_to_dx) const {
  Compute(ctx, RmsNormBackward{.dy = dy,
                               .x = x,
                               .weight = weight_->weight,
                               .rstd = rstd,
                               .dx = dx,
                               .dweight = weight_->grad,
                               .add_to_dx = add_to_dx});
}

}  // namespace unipool
