// The constant c of NormRouter (model/method.md#router-constant): the mean over draws x ~ Normal(0,
// I_experts) of 1 / |top-k of relu(x / |x|)|_2, estimated as the authors do (1e5 draws of numpy's
// legacy generator, seed 42; above 4096 experts 4096e5 / experts draws), so that c depends on
// (experts, top_k) alone.
#pragma once

namespace unipool {

struct RouterConstant {
  double c;           // mean over the draws with a positive component
  int dropped_draws;  // draws without a positive component, whose value would be infinite
};

// 1 <= top_k <= experts.
RouterConstant EstimateRouterConstant(int experts, int top_k);

}  // namespace unipool
