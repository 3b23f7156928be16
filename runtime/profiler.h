// Where a step's time goes, by name: "gemm", "exchange.dispatch". A scope costs two clock reads
// when the profiler is on and one branch when it is off. One Profiler belongs to one thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace unipool {

class Profiler {
 public:
  struct Entry {
    const char* name;  // a string literal: entries are found by address, then by content
    int64_t calls = 0;
    double seconds = 0;  // self and children
  };

  // `name` must outlive the profiler.
  class Scope {
   public:
    Scope(Profiler* profiler, const char* name);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Profiler* const profiler_;  // null when off
    const char* const name_;
    std::chrono::steady_clock::time_point start_;
  };

  void set_enabled(bool enabled) { enabled_ = enabled; }
  bool enabled() const { return enabled_; }
  void Add(const char* name, double seconds);
  void Reset();
  double Seconds(const char* name) const;  // 0 when never entered
  // By time, longest first.
  std::vector<Entry> Entries() const;
  // A table of the entries: name, calls, seconds, share of `total_seconds`.
  std::string Table(double total_seconds) const;

 private:
  std::vector<Entry> entries_;
  bool enabled_ = false;
};

}  // namespace unipool
