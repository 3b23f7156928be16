// A thread of each rank that ends the job when it makes no progress. It detects a hang if a call is
// pending longer than the deadline, or if a step in progress has neither made a call nor changed
// its Progress for as long (after SIGTERM, 20 s). Then all ranks that still run exchange their
// states, each writes its last calls to its log, and one of them reports which ranks wait for
// which. It also logs what a rank waits for on request, and when the launcher terminates the job,
// as it does after the loss of a rank. The thread wakes ten times a second, for microseconds.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "comm/call_log.h"

namespace unipool {

// Short messages between the watchdogs of all ranks, independent of the training's groups. Neither
// method waits for another rank. Used by one thread at a time.
class Messenger {
 public:
  static constexpr int kMaxBytes = 1024;

  struct Message {
    int from;  // world rank
    std::string text;
  };

  virtual ~Messenger() = default;
  // Sends the first kMaxBytes of `text` to all other ranks. A rank that cannot be reached is
  // ignored.
  virtual void SendToAll(const std::string& text) = 0;
  // Returns the next message that has arrived, if any.
  virtual std::optional<Message> Receive() = 0;
};

class Watchdog {
 public:
  struct Options {
    int rank;
    int size;
    std::vector<std::string> hosts;        // the host name of each rank, by rank
    absl::Duration deadline;               // of a pending call, and of work between two calls
    std::function<bool()> is_terminating;  // true after SIGTERM; thread-safe
    // Replaces a longer `deadline` of work between two calls after SIGTERM: work that hangs cannot
    // be saved, and the launcher ends the process soon.
    absl::Duration termination_deadline = absl::Seconds(20);
    // Number of requests so far to log what this rank does; thread-safe. Null: there are none.
    std::function<int()> state_requests = nullptr;
    std::function<void()> on_poll = nullptr;  // called at each wake-up unless null
    // Called once, after a hang; ends the job. `report` is empty on all ranks but the one that
    // prints it. Its first line is the error; a line for each rank follows.
    std::function<void(const std::string& report)> on_hang;
  };

  // Starts the thread. `log` is borrowed and must outlive this object.
  Watchdog(const CallLog& log, std::unique_ptr<Messenger> messenger, Options options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void Run();
  void UpdateLastProgress();
  void WatchTermination();
  absl::Duration WorkDeadline() const;
  bool DeadlineExceeded() const;
  void LogTermination();
  void LogRequestedState();
  void ReceiveAll();
  void HandleHang();
  std::string RankName(int rank) const;
  std::string WaitState(const CallLog::Call& call) const;
  std::string State() const;
  std::string Report() const;

  const CallLog& log_;
  const std::unique_ptr<Messenger> messenger_;
  const Options options_;
  std::map<int, std::string> states_;  // received so far, by rank
  uint64_t activity_ = 0;              // progress changes plus calls, as of the last wake-up
  CallLog::Clock::time_point last_progress_;
  CallLog::Clock::time_point last_poll_;
  std::optional<CallLog::Clock::time_point> termination_;  // when SIGTERM was noticed
  bool termination_logged_ = false;
  int state_requests_ = 0;  // answered so far

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;  // last, because it uses all members above
};

}  // namespace unipool
