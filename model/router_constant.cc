#include "model/router_constant.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

namespace unipool {
namespace {

constexpr int kDraws = 100'000;
constexpr uint32_t kSeed = 42;

// numpy.random.RandomState.standard_normal: Marsaglia's polar method over 53-bit uniforms of
// MT19937. Each round makes two values; the second is returned first, and the first at the next
// call.
class NumpyNormals {
 public:
  explicit NumpyNormals(uint32_t seed) : engine_(seed) {}

  double Next() {
    if (has_kept_) {
      has_kept_ = false;
      return kept_;
    }
    double x1 = 0, x2 = 0, radius2 = 0;
    do {
      x1 = 2.0 * Uniform() - 1.0;
      x2 = 2.0 * Uniform() - 1.0;
      radius2 = x1 * x1 + x2 * x2;
    } while (radius2 >= 1.0 || radius2 == 0.0);
    const double factor = std::sqrt(-2.0 * std::log(radius2) / radius2);
    kept_ = factor * x1;
    has_kept_ = true;
    return factor * x2;
  }

 private:
  double Uniform() {
    const uint32_t high = engine_() >> 5, low = engine_() >> 6;
    return (high * 67108864.0 + low) / 9007199254740992.0;
  }

  std::mt19937 engine_;
  double kept_ = 0;
  bool has_kept_ = false;
};

}  // namespace

RouterConstant EstimateRouterConstant(int experts, int top_k) {
  CHECK(1 <= top_k && top_k <= experts) << "top_k " << top_k << " of " << experts << " experts";
  NumpyNormals normals(kSeed);
  std::vector<double> draw(experts);
  RouterConstant result{0, 0};
  for (int i = 0; i < kDraws; ++i) {
    double norm2 = 0;
    for (double& x : draw) {
      x = normals.Next();
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
  result.c /= kDraws - result.dropped_draws;
  return result;
}

}  // namespace unipool
