// From router logits z[t,e] to scores s[t,e], and back.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// s = softmax_e(z). Facts D.1.
struct SoftmaxScoresForward {
  static constexpr char kName[] = "softmax_scores_forward";
  Tensor logits;  // [tokens, experts]
  Tensor scores;  // out [tokens, experts]; may be the same memory as logits
  auto Inputs() { return std::array{&logits}; }
  auto Outputs() { return std::array{&scores}; }
  void Check() const;
};
void ComputeOnCpu(const SoftmaxScoresForward& op);
void ComputeOnCuda(const SoftmaxScoresForward& op, Stream& stream);

// dz = s * (ds - sum_e s*ds)
struct SoftmaxScoresBackward {
  static constexpr char kName[] = "softmax_scores_backward";
  Tensor dscores;  // [tokens, experts]
  Tensor scores;   // [tokens, experts]
  Tensor dlogits;  // out [tokens, experts]; may be the same memory as dscores
  auto Inputs() { return std::array{&dscores, &scores}; }
  auto Outputs() { return std::array{&dlogits}; }
  void Check() const;
};
void ComputeOnCpu(const SoftmaxScoresBackward& op);
void ComputeOnCuda(const SoftmaxScoresBackward& op, Stream& stream);

// NormRouter (UniPool eq. 7, facts C): s = scale * c * max(0, z / (|z|_2 + eps)), |z|_2 over all
// experts. A row of zeros gives scores of zero.
struct NormScoresForward {
  static constexpr char kName[] = "norm_scores_forward";
  Tensor logits;  // [tokens, experts]
  Tensor scale;   // [1], the learned sigma
  float c;        // the Monte Carlo constant, facts C.3
  float eps;
  Tensor scores;  // out [tokens, experts]; not the same memory as logits
  auto Inputs() { return std::array{&logits, &scale}; }
  auto Outputs() { return std::array{&scores}; }
  void Check() const;
};
void ComputeOnCpu(const NormScoresForward& op);
void ComputeOnCuda(const NormScoresForward& op, Stream& stream);

// Facts C.2, with m = 1[z > 0], n = |z|_2:
//   dz_j = scale*c * (ds_j m_j / (n+eps) - z_j / (n (n+eps)^2) * sum_i ds_i m_i z_i)
//   dscale += c * sum_{t,i} ds_i max(0, z_i / (n+eps));   n = 0 gives zero gradient.
struct NormScoresBackward {
  static constexpr char kName[] = "norm_scores_backward";
  Tensor dscores;  // [tokens, experts]
  Tensor logits;   // [tokens, experts]
  Tensor scale;    // [1]
  float c;
  float eps;
  Tensor dlogits;  // out [tokens, experts]; may be the same memory as dscores
  Tensor dscale;   // in/out [1], added to: the same bits on any number of threads
  auto Inputs() { return std::array{&dscores, &logits, &scale}; }
  auto Outputs() { return std::array{&dlogits, &dscale}; }
  void Check() const;
};
void ComputeOnCpu(const NormScoresBackward& op);
void ComputeOnCuda(const NormScoresBackward& op, Stream& stream);

}  // namespace unipool
