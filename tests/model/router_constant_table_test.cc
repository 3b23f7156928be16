// The rows of model/method.md#router-constant that the fast router_constant_test does not check.
#include <gtest/gtest.h>

#include "model/router_constant.h"

namespace unipool {
namespace {

struct Known {
  int experts;
  int top_k;
  double c;
};

TEST(RouterConstantTable, EqualsTheAuthorsValues) {
  for (const Known known : {Known{64, 1, 3.499159163146123}, Known{128, 1, 4.448096434099002},
                            Known{144, 1, 4.6384984673748715}, Known{160, 1, 4.820297512859373},
                            Known{192, 1, 5.158131836861007}, Known{288, 1, 6.012228322058939},
                            Known{384, 1, 6.7221894717179715}, Known{384, 4, 3.760824141215558}}) {
    const RouterConstant constant = EstimateRouterConstant(known.experts, known.top_k);
    EXPECT_NEAR(constant.c, known.c, 1e-12 * known.c) << known.experts << ", " << known.top_k;
    EXPECT_EQ(constant.dropped_draws, 0);
  }
}

}  // namespace
}  // namespace unipool
