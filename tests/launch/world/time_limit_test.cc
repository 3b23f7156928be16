#include "launch/world/time_limit.h"

#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

TEST(ParseTimeLimit, ParsesDurationsAndSlurmsTimes) {
  EXPECT_EQ(ParseTimeLimit("3h50m").value(), absl::Minutes(230));
  EXPECT_EQ(ParseTimeLimit("45m").value(), absl::Minutes(45));
  EXPECT_EQ(ParseTimeLimit("90s").value(), absl::Seconds(90));
  EXPECT_EQ(ParseTimeLimit("02:00:30").value(), absl::Minutes(120) + absl::Seconds(30));
  EXPECT_EQ(ParseTimeLimit("1-02:00:00").value(), absl::Hours(26));
}

TEST(ParseTimeLimit, RefusesOtherTexts) {
  for (const char* text : {"", "soon", "0s", "-5m", "120", "inf", "1-2", "1:2", "-1-00:00:00",
                           "00:60:00", "00:00:-1", "1h x"}) {
    EXPECT_STATUS(ParseTimeLimit(text).status(), kInvalidArgument,
                  "is not a time above 0; write it like 3h50m");
  }
}

TEST(TimeLimit, LeavesRoomForTwoStepsAndTwoSaves) {
  const absl::Time end = absl::UnixEpoch() + absl::Seconds(1000);
  TimeLimit limit(end, absl::Seconds(100));
  limit.AddStep(absl::Seconds(10));
  EXPECT_FALSE(limit.IsNear(end - absl::Seconds(221)));
  EXPECT_TRUE(limit.IsNear(end - absl::Seconds(220)));
  limit.SetSave(absl::Seconds(5));
  EXPECT_FALSE(limit.IsNear(end - absl::Seconds(31)));
}

TEST(TimeLimit, ForgetsALongStepSlowly) {
  const absl::Time end = absl::UnixEpoch();
  TimeLimit limit(end, absl::ZeroDuration());
  limit.AddStep(absl::Seconds(100));
  limit.AddStep(absl::Seconds(1));
  EXPECT_TRUE(limit.IsNear(end - absl::Seconds(180)));
  for (int i = 0; i < 100; ++i) limit.AddStep(absl::Seconds(1));
  EXPECT_FALSE(limit.IsNear(end - absl::Seconds(3)));
}

TEST(TimeLimit, AnInfiniteLimitIsNeverNear) {
  TimeLimit limit(absl::InfiniteFuture(), absl::Hours(10));
  EXPECT_FALSE(limit.IsNear(absl::Now()));
}

}  // namespace
}  // namespace unipool
