#include "model/schedule.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

// model/method.md#learning-rate: the paper's schedule, iteration by iteration.
TEST(Schedule, MatchesMegatronsRates) {
  const Schedule schedule{
      .lr = 5e-4, .min_lr = 5e-5, .warmup_steps = 600, .decay_steps = 60000, .lagging = true};
  EXPECT_EQ(schedule.Rate(1), 0);
  EXPECT_NEAR(schedule.Rate(2), 8.333e-7, 1e-10);
  EXPECT_DOUBLE_EQ(schedule.Rate(601), 5e-4);
  EXPECT_NEAR(schedule.Rate(1000), 4.99950e-4, 5e-10);
  EXPECT_NEAR(schedule.Rate(30000), 2.785817e-4, 5e-11);
  EXPECT_NEAR(schedule.Rate(60000), 5.0000000315e-5, 1e-14);
  EXPECT_EQ(schedule.Rate(70000), 5e-5);
}

TEST(Schedule, PlainConventionStartsAtOneWarmupStep) {
  const Schedule schedule{
      .lr = 1, .min_lr = 0.1, .warmup_steps = 10, .decay_steps = 100, .lagging = false};
  EXPECT_DOUBLE_EQ(schedule.Rate(1), 0.1);
  EXPECT_DOUBLE_EQ(schedule.Rate(10), 1.0);
  EXPECT_DOUBLE_EQ(schedule.Rate(100), 0.1);
}

TEST(Schedule, WithoutWarmupStartsAtThePeak) {
  const Schedule schedule{
      .lr = 1, .min_lr = 0.1, .warmup_steps = 0, .decay_steps = 10, .lagging = true};
  EXPECT_DOUBLE_EQ(schedule.Rate(1), 1.0);
}

}  // namespace
}  // namespace unipool
