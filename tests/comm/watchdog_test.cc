// Watchdogs of several ranks in one process, with messages through memory. Ranks that are
// processes: tests/launch/train/faults_test.py.
#include "comm/watchdog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;

struct Mail {
  std::mutex mutex;
  std::vector<std::deque<Messenger::Message>> inboxes;  // by rank
};

class MailMessenger : public Messenger {
 public:
  MailMessenger(Mail& mail, int rank) : mail_(mail), rank_(rank) {}

  void SendToAll(const std::string& text) override {
    const std::lock_guard lock(mail_.mutex);
    for (auto& inbox : mail_.inboxes) {
      if (&inbox != &mail_.inboxes[rank_]) inbox.push_back({rank_, text});
    }
  }
  std::optional<Message> Receive() override {
    const std::lock_guard lock(mail_.mutex);
    auto& inbox = mail_.inboxes[rank_];
    if (inbox.empty()) return std::nullopt;
    Message message = inbox.front();
    inbox.pop_front();
    return message;
  }

 private:
  Mail& mail_;
  const int rank_;
};

std::vector<std::string> Hosts(int size) {
  std::vector<std::string> hosts;
  for (int r = 0; r < size; ++r) hosts.push_back("node" + std::to_string(r));
  return hosts;
}

class WatchdogTest : public ::testing::Test {
 protected:
  // Starts the watchdogs of `ranks` out of `size` ranks.
  void Start(int size, const std::vector<int>& ranks, bool is_terminating = false) {
    mail_.inboxes.resize(size);
    reports_.resize(size, "none");
    for (const int rank : ranks) {
      watchdogs_.push_back(std::make_unique<Watchdog>(
          logs_[rank], std::make_unique<MailMessenger>(mail_, rank),
          Watchdog::Options{.rank = rank,
                            .size = size,
                            .hosts = Hosts(size),
                            .deadline = deadline_,
                            .is_terminating = [is_terminating] { return is_terminating; },
                            .termination_deadline = absl::Milliseconds(300),
                            .on_hang =
                                [this, rank](const std::string& report) {
                                  const std::lock_guard lock(mutex_);
                                  reports_[rank] = report;
                                }}));
    }
  }

  // The argument of each rank's on_hang after `seconds`; "none" if it was not called.
  std::vector<std::string> ReportsAfter(double seconds) {
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds));
    watchdogs_.clear();
    return reports_;
  }

  absl::Duration deadline_ = absl::Milliseconds(500);
  CallLog logs_[3];
  Mail mail_;
  std::mutex mutex_;
  std::vector<std::string> reports_;
  std::vector<std::unique_ptr<Watchdog>> watchdogs_;
};

TEST_F(WatchdogTest, OneRankReportsAllStatesAndUnresponsiveRanks) {
  logs_[0].progress().SetStep(4);
  logs_[0].progress().Set("reading data");
  const CallLog::Scope scope(&logs_[1], "AllReduce", "world", 7);
  MissingRanks missing;
  missing.Add(0);
  missing.Add(2);
  logs_[1].SetMissing("world", 7, missing);
  Start(3, {0, 1});
  const std::vector<std::string> reports = ReportsAfter(3.5);
  EXPECT_THAT(
      reports[0],
      MatchesRegex("no progress for 500ms [^\n]*:\n  rank 0 on node0 waits for no rank: step "
                   "4, reading data, for .* s\n  rank 1 on node1 has waited .* s for rank 0, "
                   "2 in AllReduce #7 of group 'world' \\(start-up\\)\n  rank 2 on node2 does "
                   "not respond: .*"));
  EXPECT_EQ(reports[1], "");
}

TEST_F(WatchdogTest, WorkWithoutProgressIsAHangOfASingleRank) {
  const Progress::Work work(logs_[0].progress());
  logs_[0].progress().SetStep(4);
  logs_[0].progress().Set("forward", 2);
  Start(1, {0});
  EXPECT_THAT(
      ReportsAfter(1.5),
      ElementsAre(MatchesRegex("no progress for 500ms [^\n]*:\n  rank 0 on node0 waits for no "
                               "rank: step 4, forward of layer 2, for .* s")));
}

TEST_F(WatchdogTest, TheDeadlineOfWorkIsShorterAfterSigterm) {
  const Progress::Work work(logs_[0].progress());
  deadline_ = absl::Seconds(600);
  Start(1, {0}, /*is_terminating=*/true);
  EXPECT_THAT(ReportsAfter(1.5),
              ElementsAre(MatchesRegex("no progress for 300ms after SIGTERM; [^\n]*:\n  rank 0 on "
                                       "node0 waits for no rank: start-up, for .* s")));
}

TEST_F(WatchdogTest, ASaveMayTakeItsTimeAfterSigterm) {
  deadline_ = absl::Seconds(600);  // outside of Work: between two steps
  Start(1, {0}, /*is_terminating=*/true);
  EXPECT_THAT(ReportsAfter(1), ElementsAre("none"));
}

TEST_F(WatchdogTest, NoDeadlineAppliesBetweenSteps) {
  { const Progress::Work work(logs_[0].progress()); }
  Start(1, {0});
  EXPECT_THAT(ReportsAfter(1), ElementsAre("none"));
}

TEST_F(WatchdogTest, ChangingTheProgressIsProgress) {
  const Progress::Work work(logs_[0].progress());
  Start(1, {0});
  for (int layer = 0; layer < 10; ++layer) {
    logs_[0].progress().Set("forward", layer);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_THAT(ReportsAfter(0), ElementsAre("none"));
}

TEST_F(WatchdogTest, MakingCallsIsProgress) {
  const Progress::Work work(logs_[0].progress());
  Start(1, {0});
  for (int i = 0; i < 4; ++i) {
    { const CallLog::Scope scope(&logs_[0], "AllReduce", "world", i); }
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
  }
  EXPECT_THAT(ReportsAfter(0), ElementsAre("none"));
}

TEST_F(WatchdogTest, ShortCallsAreNotAHang) {
  Start(1, {0});
  for (int i = 0; i < 10; ++i) {
    const CallLog::Scope scope(&logs_[0], "Barrier", "world", i);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  EXPECT_THAT(ReportsAfter(0), ElementsAre("none"));
}

TEST_F(WatchdogTest, LogsItsStateOnceForEachRequest) {
  mail_.inboxes.resize(1);
  std::atomic<int> requests{0};
  ::testing::internal::CaptureStderr();
  {
    const Watchdog watchdog(logs_[0], std::make_unique<MailMessenger>(mail_, 0),
                            Watchdog::Options{.rank = 0,
                                              .size = 1,
                                              .hosts = Hosts(1),
                                              .deadline = deadline_,
                                              .is_terminating = [] { return false; },
                                              .state_requests = [&] { return requests.load(); },
                                              .on_hang = [](const std::string&) { FAIL(); }});
    std::this_thread::sleep_for(std::chrono::milliseconds(250));
    requests = 1;
    std::this_thread::sleep_for(std::chrono::milliseconds(350));
  }
  const std::string text = ::testing::internal::GetCapturedStderr();
  const size_t first = text.find("rank 0 on node0 waits for no rank: ");
  EXPECT_NE(first, std::string::npos) << text;
  EXPECT_EQ(text.find("rank 0", first + 1), std::string::npos) << text;
}

TEST_F(WatchdogTest, LogsTheWaitWhenTheJobIsTerminated) {
  ::testing::internal::CaptureStderr();
  {
    const CallLog::Scope scope(&logs_[0], "Barrier", "world", 3);
    Start(1, {0}, true);
    EXPECT_THAT(ReportsAfter(0.48), ElementsAre("none"));
  }
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              HasSubstr("received SIGTERM; rank 0 on node0 has waited 0."));
}

}  // namespace
}  // namespace unipool
