#include "model/router_constant.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

struct Known {
  int experts;
  int top_k;
  double c;
};

class RouterConstantTest : public ::testing::TestWithParam<Known> {};

// Values of model/method.md#router-constant, made with the authors' generator and seed.
TEST_P(RouterConstantTest, EqualsTheAuthorsValue) {
  const Known known = GetParam();
  const RouterConstant constant = EstimateRouterConstant(known.experts, known.top_k);
  EXPECT_NEAR(constant.c, known.c, 1e-12 * known.c);
  EXPECT_EQ(constant.dropped_draws, 0);
}

INSTANTIATE_TEST_SUITE_P(
    Facts, RouterConstantTest,
    ::testing::Values(Known{16, 1, 2.411163302099313}, Known{16, 2, 1.9181215545324717},
                      Known{24, 1, 2.619268151398126}, Known{32, 1, 2.8277780159505834},
                      Known{32, 4, 1.7709935414856055}, Known{48, 1, 3.1900549635270914},
                      Known{96, 1, 4.016194122308834}, Known{192, 2, 3.8484254858311404}));

// model/method.md#router-constant: with 8 experts, 368 draws have no positive component.
TEST(RouterConstant, DropsDrawsWithoutAPositiveComponent) {
  const RouterConstant constant = EstimateRouterConstant(8, 1);
  EXPECT_EQ(constant.dropped_draws, 368);
  EXPECT_NEAR(constant.c, 2.6803, 5e-5);
}

}  // namespace
}  // namespace unipool
