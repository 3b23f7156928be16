// Update rule of a router that balances its load with a bias instead of a loss
// (model/method.md#sigmoid-router). The bias affects only the choice of experts, see RouteTokens.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// bias[e] += rate * sign(mean_i counts[i] - counts[e]), sign(0) = 0; the sign is exact (integers).
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
