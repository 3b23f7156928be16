// Token embedding. Its table is not shared with the output head.
#pragma once

#include "model/parameter.h"
#include "runtime/context.h"

namespace unipool {

class Embedding {
 public:
  Embedding(ParameterList& parameters, int64_t vocab, int64_t hidden, float init_std);

  // y[t] = table[tokens[t]]; tokens int32 [tokens], y [tokens, hidden].
  void Forward(Context& ctx, Tensor tokens, Tensor y) const;
  // Adds the rows of dy [tokens, hidden] to the gradients of the tokens' rows.
  void Backward(Context& ctx, Tensor tokens, Tensor dy) const;

 private:
  const Parameter* table_;
};

}  // namespace unipool
