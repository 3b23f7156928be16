#include "runtime/median.h"

#include <glog/logging.h>

#include <algorithm>

namespace unipool {

double Median(std::vector<double> values) {
  const double upper = UpperMedianInPlace(absl::MakeSpan(values));
  if (values.size() % 2 == 1) return upper;
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  return (*std::max_element(values.begin(), middle) + upper) / 2;
}

double UpperMedianInPlace(absl::Span<double> values) {
  CHECK(!values.empty());
  const auto middle = values.begin() + values.size() / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace unipool
