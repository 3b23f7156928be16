#include "comm/call_log.h"

#include <gtest/gtest.h>

#include <string>

#include "comm/local_communicator.h"

namespace unipool {
namespace {

TEST(MissingRanks, AreToldInOrderAndOnce) {
  MissingRanks missing;
  for (const int rank : {5, 2, 5, 9, 2}) missing.Add(rank);
  EXPECT_EQ(missing.ToString(), "2, 5, 9");
}

TEST(MissingRanks, KeepTheLowestOfMany) {
  MissingRanks missing;
  for (int rank = 20; rank > 0; --rank) missing.Add(rank);
  EXPECT_EQ(missing.ToString(), "1, 2, 3, 4, 5, 6, 7, 8 and others");
}

TEST(CallLog, SaysWhatIsUnderWayAndWhere) {
  CallLog log;
  log.progress().SetStep(12);
  log.progress().Set("forward", 3);
  EXPECT_FALSE(log.OldestUnderWay().has_value());
  {
    const CallLog::Scope scope(&log, "AllToAllV", "expert", 17);
    log.progress().Set("losses");  // the call keeps the place that it was made at
    MissingRanks missing;
    missing.Add(2);
    log.NoteMissing("expert", 17, missing);
    log.NoteMissing("world", 17, MissingRanks{});
    ASSERT_TRUE(log.OldestUnderWay().has_value());
    EXPECT_EQ(log.OldestUnderWay()->ToString(),
              "AllToAllV #17 of group 'expert' (step 12, forward of layer 3)");
    EXPECT_EQ(log.OldestUnderWay()->missing.ToString(), "2");
  }
  EXPECT_FALSE(log.OldestUnderWay().has_value());
  EXPECT_EQ(log.progress().Read().ToString(), "step 12, losses");
}

TEST(CallLog, KeepsTheLastCallsAndThoseOfOtherStreamsThatAreLong) {
  CallLog log;
  const CallLog::Scope slow(&log, "Broadcast", "world", 0);
  for (uint64_t i = 1; i < 64; ++i) CallLog::Scope(&log, "AllReduce", "world", i);
  EXPECT_EQ(log.OldestUnderWay()->number, 0u);
  for (uint64_t i = 64; i < 100; ++i) CallLog::Scope(&log, "AllReduce", "world", i);
  ASSERT_EQ(log.Calls().size(), 64u);
  EXPECT_EQ(log.Calls().front().number, 36u);
  EXPECT_EQ(log.Calls().back().number, 99u);
}

TEST(CallLog, WithoutOneNothingIsNoted) {
  const CallLog::Scope scope(nullptr, "AllReduce", "world", 1);
  EXPECT_FALSE(CallLog().OldestUnderWay().has_value());
}

}  // namespace
}  // namespace unipool
