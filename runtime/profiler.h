// Measures where the time of a step goes, by name: "gemm", "exchange.dispatch". A scope costs two
// clock reads when the profiler is enabled and one branch when it is disabled. A Profiler belongs
// to one thread. With a DeviceClock it belongs to the clock's stream too, and measures the times at
// which the device passes the two ends of a scope instead of the host's times.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace unipool {

// Marks points in the work of a device's stream and measures the time between them.
class DeviceClock {
 public:
  virtual ~DeviceClock() = default;
  // Puts a mark after all work enqueued so far and returns its index; indices start at 0.
  virtual int64_t Mark() = 0;
  // Seconds between two marks; blocks until the device has passed `end`.
  virtual double Seconds(int64_t begin, int64_t end) = 0;
  // Discards all marks; the next mark has index 0.
  virtual void Restart() = 0;
};

class Profiler {
 public:
  struct Entry {
    const char* name;  // a string literal: entries are found by address, then by content
    int64_t calls = 0;
    double seconds = 0;  // including nested scopes
  };

  // Measures the time from construction to destruction under `name`, which must outlive the
  // profiler.
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
    int64_t mark_ = 0;
  };

  // Measures later scopes with `clock`; null selects the host's clock.
  void set_device_clock(std::unique_ptr<DeviceClock> clock);

  void set_enabled(bool enabled) { enabled_ = enabled; }
  bool enabled() const { return enabled_; }
  void Add(const char* name, double seconds);
  void Reset();
  double Seconds(const char* name);  // 0 if there was no such scope
  // Sorted by time, longest first.
  std::vector<Entry> Entries();
  // A table of the entries: name, calls, seconds, share of `total_seconds`.
  std::string Table(double total_seconds);

 private:
  // A scope whose ends the device may not have passed yet.
  struct Pending {
    const char* name;
    int64_t begin;
    int64_t end;
  };

  void Settle();

  std::unique_ptr<DeviceClock> clock_;
  std::vector<Pending> pending_;
  std::vector<Entry> entries_;
  bool enabled_ = false;
};

}  // namespace unipool
