// Softmax cross-entropy over rows of logits:
//   losses[t] = log sum_v exp(logits[t,v]) - logits[t, targets[t]]
// On GPUs the logits may be bfloat16; losses are float32.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

struct CrossEntropyForward {
  static constexpr char kName[] = "cross_entropy_forward";
  Tensor logits;   // [tokens, vocab]
  Tensor targets;  // int32 [tokens], each in [0, vocab)
  Tensor losses;   // out [tokens]
  auto Inputs() { return std::array{&logits, &targets}; }
  auto Outputs() { return std::array{&losses}; }
  void Check() const;
};
void ComputeOnCpu(const CrossEntropyForward& op);
void ComputeOnCuda(const CrossEntropyForward& op, Stream& stream);

// Computes the losses and overwrites the logits with their gradient:
//   dlogits[t,v] = scale * (softmax(logits[t])[v] - (v == targets[t]))
struct CrossEntropyGradient {
  static constexpr char kName[] = "cross_entropy_gradient";
  Tensor logits;   // in: logits; out: dlogits [tokens, vocab]
  Tensor targets;  // int32 [tokens], each in [0, vocab)
  float scale;     // weight of each token's loss in the objective
  Tensor losses;   // out [tokens]
  auto Inputs() { return std::array{&logits, &targets}; }
  auto Outputs() { return std::array{&logits, &losses}; }
  void Check() const;
};
void ComputeOnCpu(const CrossEntropyGradient& op);
void ComputeOnCuda(const CrossEntropyGradient& op, Stream& stream);

// sum += weight * sum_t losses[t], summed in double. The CPU adds the tokens in order.
struct SumLosses {
  static constexpr char kName[] = "sum_losses";
  Tensor losses;  // [tokens]
  double weight;
  Tensor sum;  // in/out float64 [1], added to
  auto Inputs() { return std::array{&losses, &sum}; }
  auto Outputs() { return std::array{&sum}; }
  void Check() const;
};
void ComputeOnCpu(const SumLosses& op);
void ComputeOnCuda(const SumLosses& op, Stream& stream);

}  // namespace unipool
