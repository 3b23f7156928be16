// RMSNorm with a learned weight, initially one.
#pragma once

#include <cstdint>
#include <string>

#include "model/parameter.h"
#include "runtime/context.h"

namespace unipool {

class Norm {
 public:
  Norm(ParameterList& parameters, const std::string& name, int64_t hidden, float eps);

  int64_t hidden() const { return weight_->numel(); }

  // x, y [tokens, hidden]; rstd [tokens] is for the backward.
  void Forward(Context& ctx, Tensor x, Tensor y, Tensor rstd) const;
  // Adds to dx, which holds the residual's gradient, or overwrites it.
  void Backward(Context& ctx, Tensor dy, Tensor x, Tensor rstd, Tensor dx, bool add_to_dx) const;

 private:
  const Parameter* weight_;
  float eps_;
};

}  // namespace unipool
