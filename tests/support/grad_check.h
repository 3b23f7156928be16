// Checks an analytic gradient against central differences.
#pragma once

#include <functional>

#include "runtime/tensor.h"

namespace unipool::testing {

struct GradCheckOptions {
  double step = 1e-2;         // step of the difference, in units of x
  double tolerance = 1e-2;    // |dx - difference| <= tolerance * (1 + |difference|)
  int64_t max_elements = 64;  // number of elements of x to check, evenly spaced
};

// `loss` runs the forward with the current contents of x and returns a scalar; dx is its gradient.
void ExpectGradient(const Tensor& x, const Tensor& dx, const std::function<double()>& loss,
                    const GradCheckOptions& options = {});

}  // namespace unipool::testing
