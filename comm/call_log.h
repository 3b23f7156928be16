// What a rank does together with others: the last calls on all of its groups, which of them are
// under way, and whom they wait for. Written by the threads that make the calls, without
// allocating; read by the watchdog.
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

// Ranks of the world that a call waits for: each once, the lowest few of them.
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
    const char* name = nullptr;  // a string literal, as in "AllReduce"
    std::array<char, 16> group = {};
    uint64_t number = 0;  // within its group
    Progress::Snapshot progress;
    Clock::time_point start;
    Clock::time_point end;  // the epoch while it is under way
    MissingRanks missing;   // as of the last look, a part of a second ago

    bool is_under_way() const { return end == Clock::time_point{}; }
    // "AllToAllV #17 of group 'expert' (step 12, forward of layer 3)".
    std::string ToString() const;
  };

  // The time of a call. `log` may be null.
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

  // The same in two parts, for calls that end elsewhere: End takes what Begin gave.
  uint64_t Begin(const char* name, const std::string& group, uint64_t number);
  void End(uint64_t index);

  // Where this rank is in its work; its owner's to write.
  Progress& progress() { return progress_; }
  const Progress& progress() const { return progress_; }

  // For a call that is under way.
  void NoteMissing(const std::string& group, uint64_t number, const MissingRanks& missing);

  // Oldest first; at most kCalls.
  std::vector<Call> Calls() const;
  std::optional<Call> OldestUnderWay() const;
  // That call as text, or the progress where no call is under way.
  std::string NowInWords() const;
  // So far: what does not grow stands still.
  uint64_t num_calls() const;

 private:
  static constexpr uint64_t kCalls = 64;

  Progress progress_;
  mutable std::mutex mutex_;
  std::array<Call, kCalls> calls_;  // call i is at i modulo kCalls
  uint64_t num_calls_ = 0;
};

}  // namespace unipool
