// Finds the first op whose output holds a NaN or an infinity. The trainer enables it (through
// Context) and repeats the step when a loss is not finite.
#pragma once

#include <string>

#include "runtime/tensor.h"

namespace unipool {

// Flat index of the first element that is NaN or infinite; -1 if there is none or if the tensor is
// not of a float type.
int64_t FirstNonFinite(const Tensor& tensor);

struct FiniteCheck {
  std::string where;       // current module, set by the model: "model.layers.3.mlp"
  std::string first;       // describes the first output with a bad element; empty if none so far
  int64_t looks = 0;       // number of tensors inspected so far
  int64_t first_look = 0;  // value of `looks` at the first bad tensor, counted from 1; 0 if none

  // Inspects one output of `op`; records it in `first` if it is the first with a bad element.
  void Look(const char* op, const Tensor& tensor);
};

}  // namespace unipool
