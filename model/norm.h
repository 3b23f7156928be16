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

  struct ForwardArgs {
    Tensor x;     // [tokens, hidden]
    Tensor y;     // out [tokens, hidden]
    Tensor rstd;  // out float32 [tokens], read by Backward
  };
  void Forward(Context& ctx, const ForwardArgs& args) const;

  struct BackwardArgs {
    Tensor dy;    // [tokens, hidden]
    Tensor x;     // [tokens, hidden]
    Tensor rstd;  // float32 [tokens]
    Tensor dx;    // out [tokens, hidden]
    bool add_to_dx;
  };
  void Backward(Context& ctx, const BackwardArgs& args) const;

 private:
  const Parameter* weight_;
  float eps_;
};

}  // namespace unipool
