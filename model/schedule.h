// The learning rate of each step: linear warmup, then a cosine to min_lr
// (model/method.md#learning-rate).
#pragma once

#include <cstdint>

namespace unipool {

struct Schedule {
  double lr;
  double min_lr;
  int64_t warmup_steps;
  int64_t decay_steps;  // from this step on the rate is min_lr
  // True: step i uses the rate after i - 1 finished steps, so step 1 has rate 0 (Megatron). False:
  // step i uses the rate after i steps.
  bool lagging;

  // The learning rate of `step`, counted from 1.
  double Rate(int64_t step) const;
};

}  // namespace unipool
