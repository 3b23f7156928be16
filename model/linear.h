// y = x W^T without bias, W [out, in]. One Linear may stand for several named matrices stacked
// along `out` (query, key and value), which then run as one product.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "model/parameter.h"
#include "runtime/context.h"

namespace unipool {

class Linear {
 public:
  struct Part {
    std::string name;
    int64_t out;
  };
  // Adds one parameter a part to `parameters`, which outlives this. The weight of a `precise` one
  // is float32 in every run, and so are then y and its gradient; x and its gradient may be
  // bfloat16, and the products are as exact as in float32 nevertheless (runtime/ops/bf16_terms.h).
  Linear(ParameterList& parameters, const std::vector<Part>& parts, int64_t in, float init_std,
         bool precise = false);

  int64_t out() const { return out_; }
  Tensor weight() const;   // [out, in]
  Tensor dweight() const;  // float32 [out, in]

  // y = base + x W^T, without base where that is absent; x [tokens, in] of the weight's type, base
  // and y [tokens, out] of it or float32. A precise weight's has no base.
  void Forward(Context& ctx, Tensor x, Tensor base, Tensor y) const;
  // dW += dy^T x and dx (+)= dy W.
  void Backward(Context& ctx, Tensor dy, Tensor x, Tensor dx, bool add_to_dx) const;

 private:
  bool InTerms(const Tensor& x) const { return x.dtype != weight().dtype; }
  using Terms = std::array<int, 4>;
  Tensor WeightTerms(Context& ctx, const Terms& terms, int64_t blocks) const;
  void ForwardInTerms(Context& ctx, Tensor x, Tensor y) const;
  void BackwardInTerms(Context& ctx, Tensor dy, Tensor x, Tensor dx, bool add_to_dx) const;

  const Parameter* first_;
  int64_t out_ = 0;
  int64_t in_;
};

}  // namespace unipool
