// y = x W^T without bias, W [out, in]. A Linear can hold several named matrices stacked along `out`
// (query, key and value), which are multiplied in one product.
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
  struct Settings {
    int64_t in;
    float init_std;
    // The weight is float32 in every run, and so are y and its gradient. x and its gradient may be
    // bfloat16; the products then still have the accuracy of float32 (runtime/ops/bf16_terms.h).
    bool precise = false;
  };
  // Adds one parameter per part to `parameters`, which outlives this.
  Linear(ParameterList& parameters, const std::vector<Part>& parts, const Settings& settings);

  int64_t out() const { return out_; }
  Tensor weight() const;   // [out, in]
  Tensor dweight() const;  // float32 [out, in]

  struct ForwardArgs {
    Tensor x;          // [tokens, in], of the weight's type unless the weight is precise
    Tensor base = {};  // [tokens, out], or absent; absent if a precise weight meets bfloat16
    Tensor y;          // out [tokens, out], of the weight's type or float32
  };
  // y = base + x W^T, without base if it is absent.
  void Forward(Context& ctx, const ForwardArgs& args) const;

  struct BackwardArgs {
    Tensor dy;  // [tokens, out]
    Tensor x;   // [tokens, in]
    Tensor dx;  // out [tokens, in]
    bool add_to_dx;
  };
  // dW += dy^T x and dx (+)= dy W.
  void Backward(Context& ctx, const BackwardArgs& args) const;

 private:
  // True if x is bfloat16 and the weight float32, which is then split into bfloat16 terms.
  bool InTerms(const Tensor& x) const { return x.dtype != weight().dtype; }
  using Terms = std::array<int, 4>;
  Tensor WeightTerms(Context& ctx, const Terms& terms, int64_t blocks) const;
  void ForwardInTerms(Context& ctx, const ForwardArgs& args) const;
  void BackwardInTerms(Context& ctx, const BackwardArgs& args) const;

  const Parameter* first_;
  int64_t out_ = 0;
  int64_t in_;
};

}  // namespace unipool
