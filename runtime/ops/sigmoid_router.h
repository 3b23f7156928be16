// The router that balances by a bias instead of a loss (facts D.3): scores by a sigmoid, gates that
// may be normalized, and the rule that moves the bias. The bias enters the choice alone: TopK.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// s = 1 / (1 + exp(-z))
struct SigmoidScoresForward {
  static constexpr char kName[] = "sigmoid_scores_forward";
  Tensor logits;  // [tokens, experts]
  Tensor scores;  // out [tokens, experts]; may be the same memory as logits
  auto Inputs() { return std::array{&logits}; }
  auto Outputs() { return std::array{&scores}; }
  void Check() const;
};
void ComputeOnCpu(const SigmoidScoresForward& op);
void ComputeOnCuda(const SigmoidScoresForward& op, Stream& stream);

// dz = ds * s * (1 - s)
struct SigmoidScoresBackward {
  static constexpr char kName[] = "sigmoid_scores_backward";
  Tensor dscores;  // [tokens, experts]
  Tensor scores;   // [tokens, experts]
  Tensor dlogits;  // out [tokens, experts]; may be the same memory as dscores
  auto Inputs() { return std::array{&dscores, &scores}; }
  auto Outputs() { return std::array{&dlogits}; }
  void Check() const;
};
void ComputeOnCpu(const SigmoidScoresBackward& op);
void ComputeOnCuda(const SigmoidScoresBackward& op, Stream& stream);

// gates[t,j] /= sums[t],  sums[t] = sum_j gates[t,j] + 1e-20
struct NormalizeGates {
  static constexpr char kName[] = "normalize_gates";
  Tensor gates;  // in/out [tokens, k]
  Tensor sums;   // out [tokens]
  auto Inputs() { return std::array{&gates}; }
  auto Outputs() { return std::array{&gates, &sums}; }
  void Check() const;
};
void ComputeOnCpu(const NormalizeGates& op);
void ComputeOnCuda(const NormalizeGates& op, Stream& stream);

// The gradient of the gates as they were before: dgates[t,j] =
//   (dgates[t,j] - sum_i dgates[t,i] gates[t,i]) / sums[t]
struct NormalizeGatesBackward {
  static constexpr char kName[] = "normalize_gates_backward";
  Tensor gates;   // [tokens, k], normalized
  Tensor sums;    // [tokens]
  Tensor dgates;  // in/out [tokens, k]
  auto Inputs() { return std::array{&gates, &sums, &dgates}; }
  auto Outputs() { return std::array{&dgates}; }
  void Check() const;
};
void ComputeOnCpu(const NormalizeGatesBackward& op);
void ComputeOnCuda(const NormalizeGatesBackward& op, Stream& stream);

// bias[e] += rate * sign(mean count - counts[e]), sign(0) = 0; exact, in integers.
struct MoveRouterBias {
  static constexpr char kName[] = "move_router_bias";
  Tensor counts;  // int64 [experts]
  float rate;
  Tensor bias;  // in/out [experts]
  auto Inputs() { return std::array{&counts, &bias}; }
  auto Outputs() { return std::array{&bias}; }
  void Check() const;
};
void ComputeOnCpu(const MoveRouterBias& op);
void ComputeOnCuda(const MoveRouterBias& op, Stream& stream);

}  // namespace unipool
