#include "runtime/stream.h"

#include <glog/logging.h>

#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>

#include "runtime/build_config.h"
#include "runtime/gpu.h"

namespace unipool {
namespace {

// Runs work immediately on the caller's thread, so everything enqueued has already happened.
class InlineStream : public Stream {
 public:
  explicit InlineStream(Device device) : Stream(device) {}

  Event Record() override { return Event{}; }
  void Wait(Event event) override {
    if (event.stream != nullptr) event.stream->BlockUntil(event.sequence);
  }
  void Synchronize() override {}
  void BlockUntil(uint64_t) override {}

 protected:
  void Enqueue(const void* work, size_t bytes, Invoke invoke) override {
    alignas(std::max_align_t) std::array<char, kMaxWorkBytes> copy;
    std::memcpy(copy.data(), work, bytes);
    invoke(copy.data());
  }
};

thread_local bool on_side_thread = false;

class ThreadStream : public Stream {
 public:
  explicit ThreadStream(Device device) : Stream(device), thread_([this] { Work(); }) {}

  ~ThreadStream() override {
    Synchronize();
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  Event Record() override {
    std::lock_guard lock(mutex_);
    return Event{this, enqueued_};
  }

  void Wait(Event event) override {
    if (event.stream == nullptr || event.stream == this) return;
    Run([event] { event.stream->BlockUntil(event.sequence); });
  }

  void Synchronize() override { BlockUntil(Record().sequence); }

  void BlockUntil(uint64_t sequence) override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ >= sequence; });
  }

 protected:
  void Enqueue(const void* work, size_t bytes, Invoke invoke) override {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return enqueued_ - done_ < kSlots; });
      Slot& slot = slots_[enqueued_ % kSlots];
      std::memcpy(slot.bytes.data(), work, bytes);
      slot.invoke = invoke;
      ++enqueued_;
    }
    changed_.notify_all();
  }

 private:
  static constexpr uint64_t kSlots = 256;
  struct Slot {
    alignas(std::max_align_t) std::array<char, kMaxWorkBytes> bytes;
    Invoke invoke = nullptr;
  };

  void Work() {
    on_side_thread = true;
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [&] { return stopping_ || done_ < enqueued_; });
      if (done_ == enqueued_) return;
      Slot& slot = slots_[done_ % kSlots];
      lock.unlock();
      slot.invoke(slot.bytes.data());
      lock.lock();
      ++done_;
      changed_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::array<Slot, kSlots> slots_;
  uint64_t enqueued_ = 0;
  uint64_t done_ = 0;
  bool stopping_ = false;
  std::thread thread_;  // last member: the thread starts when all others are initialized
};

}  // namespace

bool OnSideThread() { return on_side_thread; }

std::unique_ptr<Stream> Stream::Create(Device device, Kind kind) {
  if constexpr (kWithCuda) {
    if (device.type == DeviceType::kCuda) return CreateCudaStream(device, kind);
  }
  CHECK(device.type == DeviceType::kCpu) << ToString(device) << " in a build without CUDA";
  if (kind == Kind::kCompute) return std::make_unique<InlineStream>(device);
  return std::make_unique<ThreadStream>(device);
}

}  // namespace unipool
