// Where a step's time goes, by name: "gemm", "exchange.dispatch". A scope costs two clock reads
// when the profiler is on and one branch when it is off. One Profiler belongs to one thread, and
// given a DeviceClock to the stream of that clock: it then notes when the device came past the
// scope's two ends, not when the host did.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace unipool {

// Points in the work of a device's stream.
class DeviceClock {
 public:
  virtual ~DeviceClock() = default;
  // Puts a mark behind all work enqueued so far. Marks count from 0.
  virtual int64_t Mark() = 0;
  // From one mark to a later one; waits until the device has passed it.
  virtual double Seconds(int64_t begin, int64_t end) = 0;
  // The next mark is 0 again, and all former ones are gone.
  virtual void Restart() = 0;
};

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
    int64_t mark_ = 0;
  };

  // From now on in the device's time. Null: in the host's.
  void set_device_clock(std::unique_ptr<DeviceClock> clock);

  void set_enabled(bool enabled) { enabled_ = enabled; }
  bool enabled() const { return enabled_; }
  void Add(const char* name, double seconds);
  void Reset();
  double Seconds(const char* name);  // 0 when never entered
  // By time, longest first.
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
