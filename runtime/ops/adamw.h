// AdamW (Loshchilov and Hutter 2019) on flat arrays. One pass updates the parameters and clears the
// gradient. In this order, for each element:
//   g = grad * grad_scale;  m = beta1 m + (1-beta1) g;  v = beta2 v + (1-beta2) g^2
//   value -= lr * (m / bias1 / (sqrt(v / bias2) + eps) + weight_decay * value);  grad = 0
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

struct AdamW {
  static constexpr char kName[] = "adamw";
  // All float32 except `rounded`.
  Tensor value;    // in/out [n]
  Tensor grad;     // in/out [n]; zero on return
  Tensor m;        // in/out [n]
  Tensor v;        // in/out [n]
  Tensor rounded;  // out bfloat16 [n]: the new value, rounded, for bfloat16 products; may be absent
  float lr;
  float beta1;
  float beta2;
  float eps;
  float weight_decay;
  float bias1;       // 1 - beta1^step, step counted from 1
  float bias2;       // 1 - beta2^step
  float grad_scale;  // factor of gradient clipping, or 1
  auto Inputs() { return std::array{&value, &grad, &m, &v}; }
  auto Outputs() { return std::array{&value, &grad, &m, &v, &rounded}; }
  void Check() const;
};
void ComputeOnCpu(const AdamW& op);
void ComputeOnCuda(const AdamW& op, Stream& stream);

}  // namespace unipool
