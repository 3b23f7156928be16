// A thread of each rank that knows when nothing moves. When a call waits beyond the deadline, or a
// step under way has neither called nor come to another place for as long, all ranks that still can
// tell each other where they are; each writes its last calls to its log, and one tells in words who
// waits for whom. It also tells what a rank waits for when the job is ended by its launcher, as
// after the loss of a rank. A look costs microseconds, a few times a second.
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

#include "absl/time/time.h"
#include "comm/call_log.h"

namespace unipool {

// Short messages between the ranks' watchdogs, beside all groups. Neither call waits for a rank.
class Messenger {
 public:
  static constexpr int kMaxBytes = 1024;

  struct Message {
    int from;
    std::string text;
  };

  virtual ~Messenger() = default;
  virtual void SendToAll(const std::string& text) = 0;
  virtual std::optional<Message> Receive() = 0;
};

class Watchdog {
 public:
  struct Options {
    int rank;
    int size;
    absl::Duration deadline;                  // of a call, and of work between two
    std::function<bool()> is_ended;           // true once somebody ends the job from outside
    std::function<void()> on_look = nullptr;  // called at each look, where there is one
    // Ends the job. `words` are for people, empty on all ranks but the one that tells.
    std::function<void(const std::string& words)> on_hang;
  };

  // `log` is borrowed and outlives this.
  Watchdog(const CallLog& log, std::unique_ptr<Messenger> messenger, Options options);
  ~Watchdog();
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;

 private:
  void Watch();
  void NoteMoves();
  bool IsLate() const;
  void TellOfEnd();
  void ReceiveAll();
  void Report();
  std::string State() const;
  std::string Summary() const;

  const CallLog& log_;
  const std::unique_ptr<Messenger> messenger_;
  const Options options_;
  std::map<int, std::string> states_;  // by rank; of those that told
  uint64_t moves_ = 0;                 // of the work: places it came to, calls it made
  CallLog::Clock::time_point moved_;   // last
  CallLog::Clock::time_point looked_;
  bool end_told_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  std::thread thread_;  // last: it starts when everything above is ready
};

}  // namespace unipool
