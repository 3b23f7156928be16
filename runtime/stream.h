// An ordered queue of work on a device. On the CPU there are two kinds behind one face: the compute
// stream runs work at once on the calling thread; a side stream (communication, checkpoints) is one
// thread that works off its queue in order. On a GPU both are CUDA streams, the side stream of
// higher priority, and work of the host takes its turn among the kernels. Code that overlaps is the
// same for all.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "runtime/device.h"

namespace unipool {

class Stream;

// A point in a stream's work. Valid while the stream lives; a default one has always happened.
struct Event {
  Stream* stream = nullptr;
  uint64_t sequence = 0;
};

class Stream {
 public:
  enum class Kind : uint8_t { kCompute, kSide };

  static std::unique_ptr<Stream> Create(Device device, Kind kind = Kind::kCompute);
  virtual ~Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Device device() const { return device_; }

  // Runs `work` after all work enqueued before it. The callable is copied into the queue without
  // allocating: it must be trivially copyable and at most kMaxWorkBytes large (capture pointers to
  // things that outlive the work). Blocks while the queue is full.
  template <typename Work>
  void Run(Work work) {
    static_assert(std::is_trivially_copyable_v<Work> && sizeof(Work) <= kMaxWorkBytes);
    Enqueue(&work, sizeof(Work), [](void* bytes) { (*static_cast<Work*>(bytes))(); });
  }

  // The event happens when all work enqueued so far is done.
  virtual Event Record() = 0;
  // Work enqueued on this stream from now on starts after `event` has happened.
  virtual void Wait(Event event) = 0;
  // Blocks the calling thread until all work enqueued so far is done.
  virtual void Synchronize() = 0;
  // Blocks the calling thread until work number `sequence` of this stream is done.
  virtual void BlockUntil(uint64_t sequence) = 0;

  static constexpr size_t kMaxWorkBytes = 192;

 protected:
  using Invoke = void (*)(void*);
  explicit Stream(Device device) : device_(device) {}
  virtual void Enqueue(const void* work, size_t bytes, Invoke invoke) = 0;

 private:
  Device device_;
};

// Whether the calling thread is that of a CPU's side stream: what waits there should leave the core
// to those who compute.
bool OnSideThread();

}  // namespace unipool
