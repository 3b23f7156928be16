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

void Norm::Forward(Context& ctx, const ForwardArgs& args) const {
  Compute(ctx,
          RmsNormForward{
              .x = args.x, .weight = weight_->weight, .eps = eps_, .y = args.y, .rstd = args.rstd});
}

void Norm::Backward(Context& ctx, const BackwardArgs& args) const {
  Compute(ctx, RmsNormBackward{.dy = args.dy,
                               .x = args.x,
                               .weight = weight_->weight,
                               .rstd = args.rstd,
                               .dx = args.dx,
                               .dweight = weight_->grad,
                               .add_to_dx = args.add_to_dx});
}

}  // namespace unipool
