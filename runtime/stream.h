// An ordered queue of work on a device. On the CPU there are two kinds with one interface: the
// compute stream runs work immediately on the calling thread; a side stream (communication,
// checkpoints) is one thread that runs its queue in order. On a GPU both are CUDA streams, the side
// stream with higher priority, and host work is executed in order with the kernels. Code that
// overlaps streams is the same for all.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "runtime/device.h"

namespace unipool {

class Stream;

// A point in a stream's work, valid while the stream lives. A default-constructed Event has always
// happened.
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
  // allocating, so it must be trivially copyable and at most kMaxWorkBytes large (capture pointers
  // to objects that outlive the work). Blocks while the queue is full.
  template <typename Work>
  void Run(Work work) {
    static_assert(std::is_trivially_copyable_v<Work> && sizeof(Work) <= kMaxWorkBytes);
    Enqueue(&work, sizeof(Work), [](void* bytes) { (*static_cast<Work*>(bytes))(); });
  }

  // Returns an event that happens when all work enqueued so far is done.
  virtual Event Record() = 0;
  // Work enqueued on this stream after this call starts after `event` has happened. The call blocks
  // only on a CPU compute stream, or if a CUDA stream waits for the event of a CPU stream.
  virtual void Wait(Event event) = 0;
  // Blocks the calling thread until all work enqueued so far is done.
  virtual void Synchronize() = 0;
  // Blocks the calling thread until work item `sequence` of this stream is done.
  virtual void BlockUntil(uint64_t sequence) = 0;

  static constexpr size_t kMaxWorkBytes = 192;

 protected:
  using Invoke = void (*)(void*);
  explicit Stream(Device device) : device_(device) {}
  virtual void Enqueue(const void* work, size_t bytes, Invoke invoke) = 0;

 private:
  Device device_;
};

// Returns true if the calling thread is the thread of a CPU side stream. Code that waits on such a
// thread should yield its core to the compute threads.
bool OnSideThread();

}  // namespace unipool
