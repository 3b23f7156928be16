#include "model/router_constant.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <vector>

#include "runtime/numpy_random.h"

namespace unipool {
namespace {

constexpr int kDraws = 100'000;
constexpr uint32_t kSeed = 42;
// Above this number of experts there are fewer draws, so that their time does not grow. One draw
// varies less, the more experts it has.
constexpr int kExpertsOfAllDraws = 4096;

}  // namespace

RouterConstant EstimateRouterConstant(int experts, int top_k) {
  CHECK(1 <= top_k && top_k <= experts) << "top_k " << top_k << " of " << experts << " experts";
  NumpyRandom random(kSeed);
  std::vector<double> draw(experts);
  RouterConstant result{0, 0};
  const int draws = static_cast<int>(
      int64_t{kDraws} * std::min(experts, kExpertsOfAllDraws) / experts);
  for (int i = 0; i < draws; ++i) {
    double norm2 = 0;
    for (double& x : draw) {
      x = random.StandardNormal();
      norm2 += x * x;
    }
    std::partial_sort(draw.begin(), draw.begin() + top_k, draw.end(), std::greater<>());
    double top2 = 0;
    for (int j = 0; j < top_k; ++j) top2 += draw[j] > 0 ? draw[j] * draw[j] : 0;
    if (top2 == 0) {
      ++result.dropped_draws;
    } else {
      result.c += std::sqrt(norm2 / top2);
    }
  }
  result.c /= draws - result.dropped_draws;
  return result;
}

}  // namespace unipool
