// The most recent collective calls of a rank on all of its groups: which of them are pending and
// which ranks they wait for. The threads that make calls write it without allocating; the watchdog
// reads it. All methods are thread-safe.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "runtime/progress.h"

namespace unipool {

// World ranks that a call waits for: a sorted set that keeps the lowest few. Not thread-safe.
class MissingRanks {
 public:
  void Add(int rank);
  bool empty() const { return count_ == 0; }
  // "2, 5" or "0, 1, 2, 3, 4, 5, 6, 7 and others".
  std::string ToString() const;

 private:
  static constexpr int kMax = 8;
  std::array<int, kMax> ranks_ = {};  // ascending
  int count_ = 0;
  bool more_ = false;
};

class CallLog {
 public:
  using Clock = std::chrono::steady_clock;

  struct Call {
    const char* name = nullptr;       // a string literal, as in "AllReduce"
    std::array<char, 16> group = {};  // the group's name, cut to 15 characters
    uint64_t number = 0;              // counted from 0 within its group
    Progress::Snapshot progress;      // of the rank when the call began
    Clock::time_point start;
    Clock::time_point end;  // the epoch while the call is pending
    MissingRanks missing;   // as of the last SetMissing, a fraction of a second ago

    bool is_pending() const { return end == Clock::time_point{}; }
    // "AllToAllV #17 of group 'expert' (step 12, forward of layer 3)".
    std::string ToString() const;
  };

  // Records a call that lasts as long as the scope. `log` is borrowed; if null, nothing is
  // recorded.
  class Scope {
   public:
    Scope(CallLog* log, const char* name, const std::string& group, uint64_t number);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    CallLog* const log_;
    uint64_t index_ = 0;
  };

  // The same in two parts, for a call that ends on another thread or device. Begin returns the
  // index that End takes. `name` is a string literal.
  uint64_t Begin(const char* name, const std::string& group, uint64_t number);
  void End(uint64_t index);

  // Progress of this rank, written by the thread that trains.
  Progress& progress() { return progress_; }
  const Progress& progress() const { return progress_; }

  // Sets the ranks that the pending call `number` of `group` waits for.
  void SetMissing(const std::string& group, uint64_t number, const MissingRanks& missing);

  // The last kCalls calls, oldest first.
  std::vector<Call> Calls() const;
  // The oldest pending call among them.
  std::optional<Call> OldestPending() const;
  // The oldest pending call as text, or the rank's progress if no call is pending.
  std::string CurrentActivity() const;
  // Number of calls begun so far; an unchanged value means no new call.
  uint64_t num_calls() const;

 private:
  static constexpr uint64_t kCalls = 64;

  Progress progress_;
  mutable std::mutex mutex_;
  std::array<Call, kCalls> calls_;  // call i is at i modulo kCalls
  uint64_t num_calls_ = 0;
};

}  // namespace unipool
