// RMS normalization (Zhang and Sennrich 2019):
//   y[t,h] = x[t,h] * rstd[t] * weight[h],  rstd[t] = 1 / sqrt(mean_h x[t,h]^2 + eps)
// On GPUs x, y, weight and their gradients may be bfloat16, except dweight; rstd and dweight are
// float32. If the sum of squares of a row overflows, rstd and y of that row are NaN.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

struct RmsNormForward {
  static constexpr char kName[] = "rms_norm_forward";
  Tensor x;       // [tokens, hidden]
  Tensor weight;  // [hidden]
  float eps;
  Tensor y;     // out [tokens, hidden]
  Tensor rstd;  // out [tokens], kept for the backward
  auto Inputs() { return std::array{&x, &weight}; }
  auto Outputs() { return std::array{&y, &rstd}; }
  void Check() const;
};
void ComputeOnCpu(const RmsNormForward& op);
void ComputeOnCuda(const RmsNormForward& op, Stream& stream);

// With rstd = rstd[t]:
//   dx[t,h] = rstd * (dy*weight - x * rstd^2 * mean_h(dy*weight*x))
//   dweight[h] += sum_t dy*x*rstd
struct RmsNormBackward {
  static constexpr char kName[] = "rms_norm_backward";
  Tensor dy;       // [tokens, hidden]
  Tensor x;        // [tokens, hidden]
  Tensor weight;   // [hidden]
  Tensor rstd;     // [tokens]
  Tensor dx;       // out [tokens, hidden]; in/out if `add_to_dx`
  Tensor dweight;  // in/out [hidden], added to
  bool add_to_dx;  // adds to dx, which holds the gradient of a residual connection from x
  auto Inputs() { return std::array{&dy, &x, &weight, &rstd}; }
  auto Outputs() { return std::array{&dx, &dweight}; }
  void Check() const;
};
void ComputeOnCpu(const RmsNormBackward& op);
void ComputeOnCuda(const RmsNormBackward& op, Stream& stream);

}  // namespace unipool
