// Routing of a layer after the product that computes the logits: scores, the chosen experts and
// their gates; and the backward from the gradient of the gates to that of the logits. One pass over
// the tokens in each direction. Everything is float32, whatever the dtype of activations.
#pragma once

#include <array>
#include <cstdint>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// How logits z[t,e] become scores s[t,e]:
//   kNorm     s = scale * c * max(0, z / (|z|_2 + eps)), |z|_2 over all experts; a row of zeros
//             gives scores of zero. NormRouter, UniPool eq. 7, model/method.md#norm-router.
//   kSoftmax  s = softmax_e(z). model/method.md#softmax-router.
//   kSigmoid  s = 1 / (1 + exp(-z)). model/method.md#sigmoid-router.
enum class ScoreKind : uint8_t { kNorm, kSoftmax, kSigmoid };

// Computes the scores, then for each token the k experts with the largest biased scores:
//   ids[t,0..k) in descending order of s[t,e] + bias[e], ties to the lowest id
//   gates[t,j] = s[t, ids[t,j]], without the bias
//   counts[e] += number of (t, j) with ids[t,j] == e
// If gate_sums is given, gate_sums[t] = sum_j gates[t,j] + 1e-20 and the gates are divided by it.
// If ids is absent, only the scores are computed.
struct RouteTokens {
  static constexpr char kName[] = "route_tokens";
  ScoreKind kind;
  float c;           // kNorm: the Monte Carlo constant, model/method.md#router-constant
  float eps;         // kNorm
  Tensor logits;     // [tokens, experts]
  Tensor scale;      // [1], kNorm: the learned sigma; else absent
  Tensor bias;       // [experts]; absent means zeros
  Tensor scores;     // out [tokens, experts]; may be the memory of logits, except with kNorm
  Tensor ids;        // out int32 [tokens, k], 1 <= k <= experts; or absent
  Tensor gates;      // out [tokens, k]; absent if ids is absent
  Tensor gate_sums;  // out [tokens]; absent means that gates are not normalized
  Tensor counts;     // in/out int64 [experts], added to; absent if ids is absent
  auto Inputs() { return std::array{&logits, &scale, &bias}; }
  auto Outputs() { return std::array{&scores, &ids, &gates, &gate_sums, &counts}; }
  void Check() const;
};
void ComputeOnCpu(const RouteTokens& op);
void ComputeOnCuda(const RouteTokens& op, Stream& stream);

// Gradient of the gates and of the balance losses with respect to the logits. `score_gradient` is
// the gradient of the balance losses with respect to the scores, the same for each token:
//   ds[t,e] = score_gradient[e] + sum_j 1[ids[t,j] == e] dg[t,j]
//   dg = dgates, or with gate_sums
//   dg[t,j] = (dgates[t,j] - sum_i dgates[t,i] gates[t,i]) / gate_sums[t]
// and from the scores to the logits:
//   kNorm     with m = 1[z > 0], n = |z|_2 (model/method.md#norm-router; n = 0 gives zero
//             gradient):
//             dz_j = scale*c * (ds_j m_j / (n+eps) - z_j / (n (n+eps)^2) * sum_i ds_i m_i z_i)
//             dscale += c * sum_{t,i} ds_i max(0, z_i / (n+eps))
//   kSoftmax  dz = s * (ds - sum_e s*ds)
//   kSigmoid  dz = ds * s * (1 - s)
struct RouteTokensBackward {
  static constexpr char kName[] = "route_tokens_backward";
  ScoreKind kind;
  float c;
  float eps;
  Tensor dgates;          // [tokens, k]
  Tensor score_gradient;  // [experts]
  Tensor logits;          // [tokens, experts], kNorm only; else absent
  Tensor scale;           // [1], kNorm only; else absent
  Tensor scores;          // [tokens, experts], other kinds; absent with kNorm
  Tensor ids;             // int32 [tokens, k]
  Tensor gates;           // [tokens, k], output of RouteTokens; absent if gate_sums is absent
  Tensor gate_sums;       // [tokens], or absent
  Tensor dlogits;         // out [tokens, experts]; not the memory of logits or scores
  Tensor dscale;  // in/out [1], added to, kNorm only; bits do not depend on the number of threads
  auto Inputs() {
    return std::array{&dgates, &score_gradient, &logits, &scale, &scores, &ids, &gates, &gate_sums};
  }
  auto Outputs() { return std::array{&dlogits, &dscale}; }
  void Check() const;
};
void ComputeOnCpu(const RouteTokensBackward& op);
void ComputeOnCuda(const RouteTokensBackward& op, Stream& stream);

}  // namespace unipool
