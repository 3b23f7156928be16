// How evenly a router spreads its choices: counts of them, and the losses that are made of the
// counts (model/method.md#layer-loss, model/method.md#pool-loss). All in double and in whole
// numbers, with sums in a fixed order.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// A micro-batch's counts go to the step's and are then those of the previous micro-batch:
//   step += counts, previous = counts, counts = 0.
struct TakeCounts {
  static constexpr char kName[] = "take_counts";
  Tensor counts;    // in/out int64 [size]
  Tensor step;      // in/out int64 [size]
  Tensor previous;  // out int64 [size]
  auto Inputs() { return std::array{&counts, &step}; }
  auto Outputs() { return std::array{&counts, &step, &previous}; }
  void Check() const;
};
void ComputeOnCpu(const TakeCounts& op);
void ComputeOnCuda(const TakeCounts& op, Stream& stream);

// shares[e] = factor * n[e] / sum_e n[e], n[e] = sum_l counts[l,e]; where nothing was counted, as
// if all n were equal.
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

// Losses that are linear in a layer's scores, losses[i] += sum_e weights[i,e] sum_t score[t,e], and
// the derivative of their sum by the score of any token, column[e] = sum_i weights[i,e].
struct BalanceLoss {
  static constexpr char kName[] = "balance_loss";
  Tensor column_sums;  // float64 [experts]: the scores' sums over tokens
  Tensor weights;      // float64 [2, experts]
  Tensor losses;       // in/out float64 [2], added to
  Tensor column;       // out [experts]
  auto Inputs() { return std::array{&column_sums, &weights, &losses}; }
  auto Outputs() { return std::array{&losses, &column}; }
  void Check() const;
};
void ComputeOnCpu(const BalanceLoss& op);
void ComputeOnCuda(const BalanceLoss& op, Stream& stream);

}  // namespace unipool
