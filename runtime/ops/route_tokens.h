// A layer's routing, all of what follows the product that gives the logits: a token's scores, the
// experts it chooses, their gates; and back, from the gates' gradient to the logits'. One pass over
// the tokens each way. Everything is float32 whatever activations are.
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

// ids[t,0..k) by falling s[t,e] + bias[e], ties to the lowest id; gates[t,j] = s[t, ids[t,j]],
// without the bias. counts[e] += the number of (t, j) with ids[t,j] == e.
// With gate_sums the gates are divided by gate_sums[t] = sum_j gates[t,j] + 1e-20.
// Without ids, scores alone are computed.
struct RouteTokens {
  static constexpr char kName[] = "route_tokens";
  ScoreKind kind;
  float c;           // of kNorm: the Monte Carlo constant, model/method.md#router-constant
  float eps;         // of kNorm
  Tensor logits;     // [tokens, experts]
  Tensor scale;      // [1], of kNorm the learned sigma; else absent
  Tensor bias;       // [experts]; absent means zeros
  Tensor scores;     // out [tokens, experts]; may be the memory of logits, but of kNorm not
  Tensor ids;        // out int32 [tokens, k], 1 <= k <= experts; or absent
  Tensor gates;      // out [tokens, k]; absent where ids is
  Tensor gate_sums;  // out [tokens]; absent where gates are the scores as they are
  Tensor counts;     // in/out int64 [experts], added to; absent where ids is
  auto Inputs() { return std::array{&logits, &scale, &bias}; }
  auto Outputs() { return std::array{&scores, &ids, &gates, &gate_sums, &counts}; }
  void Check() const;
};
void ComputeOnCpu(const RouteTokens& op);
void ComputeOnCuda(const RouteTokens& op, Stream& stream);

// The gradient of everything that reads the scores, with `column` that of the balance losses, the
// same for each token:
//   ds[t,e] = column[e] + sum_j 1[ids[t,j] == e] dg[t,j],  dg = dgates, or with gate_sums
//   dg[t,j] = (dgates[t,j] - sum_i dgates[t,i] gates[t,i]) / gate_sums[t]
// and, through the scores:
//   kNorm     with m = 1[z > 0], n = |z|_2 (model/method.md#norm-router; n = 0 gives zero
//   gradient):
//             dz_j = scale*c * (ds_j m_j / (n+eps) - z_j / (n (n+eps)^2) * sum_i ds_i m_i z_i)
//             dscale += c * sum_{t,i} ds_i max(0, z_i / (n+eps))
//   kSoftmax  dz = s * (ds - sum_e s*ds)
//   kSigmoid  dz = ds * s * (1 - s)
struct RouteTokensBackward {
  static constexpr char kName[] = "route_tokens_backward";
  ScoreKind kind;
  float c;
  float eps;
  Tensor dgates;     // [tokens, k]
  Tensor column;     // [experts]
  Tensor logits;     // [tokens, experts], of kNorm; else absent
  Tensor scale;      // [1], of kNorm; else absent
  Tensor scores;     // [tokens, experts], of the others; of kNorm absent
  Tensor ids;        // int32 [tokens, k]
  Tensor gates;      // [tokens, k], as RouteTokens gave them; absent where gate_sums is
  Tensor gate_sums;  // [tokens], or absent
  Tensor dlogits;    // out [tokens, experts]; not the memory of logits or scores
  Tensor dscale;     // in/out [1], added to, of kNorm: the same bits on any number of threads
  auto Inputs() {
    return std::array{&dgates, &column, &logits, &scale, &scores, &ids, &gates, &gate_sums};
  }
  auto Outputs() { return std::array{&dlogits, &dscale}; }
  void Check() const;
};
void ComputeOnCpu(const RouteTokensBackward& op);
void ComputeOnCuda(const RouteTokensBackward& op, Stream& stream);

}  // namespace unipool
