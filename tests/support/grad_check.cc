#include "tests/support/grad_check.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace unipool::testing {

void ExpectGradient(const Tensor& x, const Tensor& dx, const std::function<double()>& loss,
                    const GradCheckOptions& options) {
  ASSERT_EQ(x.numel(), dx.numel());
  float* values = x.as<float>();
  const int64_t stride = std::max<int64_t>(1, x.numel() / options.max_elements);
  for (int64_t i = 0; i < x.numel(); i += stride) {
    const float saved = values[i];
    const float up = saved + static_cast<float>(options.step);
    const float down = saved - static_cast<float>(options.step);
    values[i] = up;
    const double loss_up = loss();
    values[i] = down;
    const double loss_down = loss();
    values[i] = saved;
    const double difference = (loss_up - loss_down) / (double{up} - double{down});
    EXPECT_NEAR(dx.as<float>()[i], difference, options.tolerance * (1 + std::abs(difference)))
        << "element " << i << " of " << x.ShapeString();
  }
}

}  // namespace unipool::testing
