// The tolerances of all tests that compare two computations.
#pragma once

#include "runtime/tensor.h"

namespace unipool::testing {

// |a - b| <= share * (|b| + root mean square of b). The second term allows for cancellation in sums
// of larger terms.
struct Tolerance {
  double share;
};

// Float32 results differ by the order of additions. BFloat16 results and intermediate values are
// rounded to 8 bits. Integers must be equal.
inline constexpr Tolerance kFloat32Tolerance{2e-5};
inline constexpr Tolerance kBFloat16Tolerance{1e-2};

}  // namespace unipool::testing
