#include "launch/train/divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "configs/run.pb.h"

namespace unipool {
namespace {

using Verdict = DivergenceGuard::Verdict;
using ::testing::ElementsAre;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

config::Divergence Settings(config::Divergence::Action action) {
  config::Divergence settings;
  settings.set_action(action);
  settings.set_window(16);
  settings.set_max_skips_in_a_row(2);
  settings.set_max_rewinds(2);
  return settings;
}

// Sound steps with losses and norms around 3 and 1.
void Train(DivergenceGuard& guard, int steps) {
  for (int i = 0; i < steps; ++i) {
    EXPECT_EQ(guard.Judge(3 + 0.01 * (i % 3), 1 + 0.1 * (i % 2)), Verdict::kSound);
  }
}

TEST(DivergenceGuard, StopsByDefault) {
  DivergenceGuard guard{config::Divergence()};
  EXPECT_EQ(guard.Judge(3, 1), Verdict::kSound);
  EXPECT_EQ(guard.Judge(kNan, 1), Verdict::kStop);
  EXPECT_EQ(guard.Judge(3, kInfinity), Verdict::kStop);
  EXPECT_EQ(guard.reason(), "loss 3, gradient norm inf");
}

TEST(DivergenceGuard, SkipsAtMostTheMaximumInARow) {
  DivergenceGuard guard(Settings(config::Divergence::SKIP_UPDATE));
  EXPECT_EQ(guard.Judge(kNan, 1), Verdict::kSkip);
  EXPECT_EQ(guard.Judge(3, 1), Verdict::kSound);
  EXPECT_EQ(guard.Judge(kNan, 1), Verdict::kSkip);
  EXPECT_EQ(guard.Judge(kNan, 1), Verdict::kSkip);
  EXPECT_EQ(guard.state().skipped, 3);
  EXPECT_EQ(guard.Judge(kNan, 1), Verdict::kStop);
}

TEST(DivergenceGuard, RewindsAreCountedAcrossRestoredCheckpoints) {
  DivergenceGuard guard(Settings(config::Divergence::REWIND));
  const DivergenceState saved = guard.state();
  for (int64_t rewind = 0; rewind < 2; ++rewind) {
    EXPECT_EQ(guard.Judge(kNan, 1), Verdict::kRewind);
    guard.Restore(saved);
    guard.CountRewind(rewind);
  }
  EXPECT_EQ(guard.Judge(kNan, 1), Verdict::kStop);
}

TEST(DivergenceGuard, AShorterWindowKeepsTheNewest) {
  config::Divergence settings = Settings(config::Divergence::STOP);
  settings.set_window(2);
  DivergenceGuard guard(settings);
  guard.Restore({.losses = {5, 4, 3}, .norms = {50, 40, 30}});
  EXPECT_THAT(guard.state().losses, ElementsAre(4, 3));
  EXPECT_THAT(guard.state().norms, ElementsAre(40, 30));
}

TEST(DivergenceGuard, SpikesAreOffByDefault) {
  DivergenceGuard guard(Settings(config::Divergence::SKIP_UPDATE));
  Train(guard, 20);
  EXPECT_EQ(guard.Judge(1e30, 1e30), Verdict::kSound);
}

TEST(DivergenceGuard, ASpikeIsAboveAMultipleOfTheMedianOfSoundSteps) {
  config::Divergence settings = Settings(config::Divergence::SKIP_UPDATE);
  settings.set_loss_spike(2);
  settings.set_norm_spike(10);
  DivergenceGuard guard(settings);
  EXPECT_EQ(guard.Judge(1e30, 1e30), Verdict::kSound);  // no steps to compare with
  Train(guard, 20);
  EXPECT_EQ(guard.Judge(6.1, 1), Verdict::kSkip);
  EXPECT_EQ(guard.reason(), "loss 6.1, above 2 times the median 3.01 of the last 16 steps");
  EXPECT_EQ(guard.Judge(3, 12), Verdict::kSkip);
  Train(guard, 1);
  EXPECT_EQ(guard.Judge(6, 9), Verdict::kSound);
}

TEST(DivergenceGuard, ContinuesFromItsState) {
  config::Divergence settings = Settings(config::Divergence::SKIP_UPDATE);
  settings.set_window(3);
  DivergenceGuard guard(settings);
  for (const double loss : {5.0, 4.0, 3.0, 2.0}) guard.Judge(loss, 10 * loss);
  EXPECT_EQ(guard.Judge(kNan, 1), Verdict::kSkip);
  DivergenceGuard other(settings);
  other.Restore(guard.state());
  EXPECT_THAT(other.state().losses, ElementsAre(4, 3, 2));
  EXPECT_THAT(other.state().norms, ElementsAre(40, 30, 20));
  EXPECT_EQ(other.Judge(kNan, 1), Verdict::kSkip);
  EXPECT_EQ(other.Judge(kNan, 1), Verdict::kStop);
}

}  // namespace
}  // namespace unipool
