// How far results may be apart, for all tests that compare two computations: one table.
#pragma once

#include "runtime/tensor.h"

namespace unipool::testing {

// |a - b| <= share * (|b| + root mean square of b): sums lose digits to their largest terms.
struct Tolerance {
  double share;
};

// Float32: the order of the additions differs. BFloat16: results are rounded to 8 bits, and so may
// be what lies in between. Integers are the same.
inline constexpr Tolerance kFloat32Tolerance{2e-5};
inline constexpr Tolerance kBFloat16Tolerance{1e-2};

}  // namespace unipool::testing
