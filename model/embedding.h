// Token embedding, not tied to the output head.
#pragma once

#include "model/parameter.h"
#include "runtime/context.h"

namespace unipool {

class Embedding {
 public:
  Embedding(ParameterList& parameters, int64_t vocab, int64_t hidden, float init_std);

  void Forward(Context& ctx, Tensor tokens, Tensor y) const;  // int32 [tokens] -> [tokens, hidden]
  void Backward(Context& ctx, Tensor tokens, Tensor dy) const;

 private:
  const Parameter* table_;
};

}  // namespace unipool
