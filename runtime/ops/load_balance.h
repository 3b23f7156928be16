// Counts of a router's choices, and the balance losses computed from the counts
// (model/method.md#layer-loss, model/method.md#pool-loss). Integers and doubles, with sums in a
// fixed order.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// Adds the counts of a micro-batch to those of the step and saves them as the counts of the
// previous micro-batch. In this order:
//   step += counts;  previous = counts;  counts = 0
struct AccumulateCounts {
  static constexpr char kName[] = "accumulate_counts";
  Tensor counts;    // in/out int64 [size]
  Tensor step;      // in/out int64 [size]
  Tensor previous;  // out int64 [size]
  auto Inputs() { return std::array{&counts, &step}; }
  auto Outputs() { return std::array{&counts, &step, &previous}; }
  void Check() const;
};
void ComputeOnCpu(const AccumulateCounts& op);
void ComputeOnCuda(const AccumulateCounts& op, Stream& stream);

// Share of each expert in the load of all layers:
//   shares[e] = factor * n[e] / sum_i n[i],  n[e] = sum_l counts[l,e]
// If all counts are 0, shares[e] = factor / experts.
struct LoadShares {
  static constexpr char kName[] = "load_shares";
  Tensor counts;  // int64 [layers, experts]
  double factor;
  Tensor shares;  // out float64 [experts]
  auto Inputs() { return std::array{&counts}; }
  auto Outputs() { return std::array{&shares}; }
  void Check() const;
};
void ComputeOnCpu(const LoadShares& op);
void ComputeOnCuda(const LoadShares& op, Stream& stream);

// Two losses that are linear in a layer's scores, and the derivative of their sum with respect to
// the score s[t,e] of any token t:
//   losses[i] += sum_e weights[i,e] sum_t s[t,e]
//   score_gradient[e] = sum_i weights[i,e]
struct BalanceLoss {
  static constexpr char kName[] = "balance_loss";
  Tensor column_sums;     // float64 [experts]: sum_t s[t,e]
  Tensor weights;         // float64 [2, experts]
  Tensor losses;          // in/out float64 [2], added to
  Tensor score_gradient;  // out [experts]
  auto Inputs() { return std::array{&column_sums, &weights, &losses}; }
  auto Outputs() { return std::array{&losses, &score_gradient}; }
  void Check() const;
};
void ComputeOnCpu(const BalanceLoss& op);
void ComputeOnCuda(const BalanceLoss& op, Stream& stream);

}  // namespace unipool
