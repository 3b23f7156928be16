#include "comm/call_log.h"

#include <gtest/gtest.h>

#include <string>

#include "comm/local_communicator.h"

namespace unipool {
namespace {

TEST(MissingRanks, AreSortedAndUnique) {
  MissingRanks missing;
  for (const int rank : {5, 2, 5, 9, 2}) missing.Add(rank);
  EXPECT_EQ(missing.ToString(), "2, 5, 9");
}

TEST(MissingRanks, KeepTheLowestOfMany) {
  MissingRanks missing;
  for (int rank = 20; rank > 0; --rank) missing.Add(rank);
  EXPECT_EQ(missing.ToString(), "1, 2, 3, 4, 5, 6, 7, 8 and others");
}

TEST(CallLog, DescribesThePendingCallAndItsProgress) {
  CallLog log;
  log.progress().SetStep(12);
  log.progress().Set("forward", 3);
  EXPECT_FALSE(log.OldestPending().has_value());
  {
    const CallLog::Scope scope(&log, "AllToAllV", "expert", 17);
    log.progress().Set("losses");  // the call keeps the progress at its start
    MissingRanks missing;
    missing.Add(2);
    log.SetMissing("expert", 17, missing);
    log.SetMissing("world", 17, MissingRanks{});
    ASSERT_TRUE(log.OldestPending().has_value());
    EXPECT_EQ(log.OldestPending()->ToString(),
              "AllToAllV #17 of group 'expert' (step 12, forward of layer 3)");
    EXPECT_EQ(log.OldestPending()->missing.ToString(), "2");
  }
  EXPECT_FALSE(log.OldestPending().has_value());
  EXPECT_EQ(log.progress().Read().ToString(), "step 12, losses");
}

TEST(CallLog, KeepsTheLast64Calls) {
  CallLog log;
  const CallLog::Scope slow(&log, "Broadcast", "world", 0);
  for (uint64_t i = 1; i < 64; ++i) CallLog::Scope(&log, "AllReduce", "world", i);
  EXPECT_EQ(log.OldestPending()->number, 0u);
  for (uint64_t i = 64; i < 100; ++i) CallLog::Scope(&log, "AllReduce", "world", i);
  ASSERT_EQ(log.Calls().size(), 64u);
  EXPECT_EQ(log.Calls().front().number, 36u);
  EXPECT_EQ(log.Calls().back().number, 99u);
}

TEST(CallLog, ANullLogRecordsNothing) {
  const CallLog::Scope scope(nullptr, "AllReduce", "world", 1);
  EXPECT_FALSE(CallLog().OldestPending().has_value());
}

}  // namespace
}  // namespace unipool
