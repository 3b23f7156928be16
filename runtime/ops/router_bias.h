// The rule that moves the bias of a router that balances by a bias instead of a loss
// (model/method.md#sigmoid-router). The bias enters the choice alone: RouteTokens.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

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
