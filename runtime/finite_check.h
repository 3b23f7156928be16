// Finds where a number first went bad: switched on (through Context) when a loss is not finite and
// the step is run again, it notes the first op whose output holds a NaN or an infinity.
#pragma once

#include <string>

#include "runtime/tensor.h"

namespace unipool {

// The flat index of the first element that is NaN or infinite; -1 if none, or not a float tensor.
int64_t FirstNonFinite(const Tensor& tensor);

struct FiniteCheck {
  std::string where;       // set by the model as it goes: "model.layers.3.mlp"
  std::string first;       // the first bad tensor in words; empty while all is well
  int64_t looks = 0;       // tensors looked at so far
  int64_t first_look = 0;  // which of them was the first bad one; 0 where it was none of them

  void Look(const char* op, const Tensor& tensor);
};

}  // namespace unipool
