// Medians of measurements. Both functions CHECK that there is at least one value.
#pragma once

#include <vector>

#include "absl/types/span.h"

namespace unipool {

// The middle value; for an even number of values the mean of the two middle ones.
double Median(std::vector<double> values);

// Reorders `values` and returns the middle one; for an even number of values the higher of the two
// middle ones. Allocates nothing.
double UpperMedianInPlace(absl::Span<double> values);

}  // namespace unipool
