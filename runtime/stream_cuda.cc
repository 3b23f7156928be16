#include "runtime/stream_cuda.h"

#include <glog/logging.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>

#include "runtime/build_config.h"
#include "runtime/check_cuda.h"
#include "runtime/gpu.h"

namespace unipool {
namespace {

// Host work (Run) is called by a CUDA thread in stream order and must not call CUDA.
class GpuStream : public Stream {
 public:
  GpuStream(Device device, Kind kind) : Stream(device) {
    UseDevice(device);
    int least = 0, greatest = 0;
    CUDA_CHECK(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    // Communication has priority when both streams have work, because other ranks wait for it.
    CUDA_CHECK(cudaStreamCreateWithPriority(&stream_, cudaStreamNonBlocking,
                                            kind == Kind::kSide ? greatest : least));
    for (cudaEvent_t& event : events_) {
      CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    }
  }

  ~GpuStream() override {
    Synchronize();
    cudnn_plans_.reset();  // its handle uses the stream
    for (cudaEvent_t event : events_) CUDA_CHECK(cudaEventDestroy(event));
    if (scratch_ != nullptr) CUDA_CHECK(cudaFree(scratch_));
    CUDA_CHECK(cudaStreamDestroy(stream_));
  }

  cudaStream_t handle() const { return stream_; }
  void* scratch() {
    if (scratch_ != nullptr) return scratch_;
    UseDevice(device());
    CUDA_CHECK(cudaMalloc(&scratch_, kScratchBytes));
    return scratch_;
  }
  GemmPlans& plans() {
    if (plans_ == nullptr) plans_ = NewGemmPlans();
    return *plans_;
  }
  CudnnPlans& cudnn_plans() {
    if (cudnn_plans_ == nullptr) cudnn_plans_ = NewCudnnPlans(*this);
    return *cudnn_plans_;
  }
  // Events are reused in a ring. An event whose slot has been reused happens later, so waiting for
  // it is still correct.
  cudaEvent_t EventOf(uint64_t sequence) const { return events_[sequence % kEvents]; }

  Event Record() override {
    UseDevice(device());
    CUDA_CHECK(cudaEventRecord(EventOf(++recorded_), stream_));
    return Event{this, recorded_};
  }

  void Wait(Event event) override {
    if (event.stream == nullptr || event.stream == this) return;
    if (event.stream->device().type != DeviceType::kCuda) {
      return event.stream->BlockUntil(event.sequence);
    }
    const auto& other = static_cast<const GpuStream&>(*event.stream);
    UseDevice(device());
    CUDA_CHECK(cudaStreamWaitEvent(stream_, other.EventOf(event.sequence), 0));
  }

  void Synchronize() override {
    UseDevice(device());
    CUDA_CHECK(cudaStreamSynchronize(stream_));
  }

  void BlockUntil(uint64_t sequence) override {
    UseDevice(device());
    CUDA_CHECK(cudaEventSynchronize(EventOf(sequence)));
  }

 protected:
  void Enqueue(const void* work, size_t bytes, Invoke invoke) override {
    UseDevice(device());
    if (enqueued_ - done_.load(std::memory_order_acquire) == kSlots) Synchronize();
    Slot& slot = slots_[enqueued_++ % kSlots];
    std::memcpy(slot.bytes.data(), work, bytes);
    slot.invoke = invoke;
    slot.done = &done_;
    CUDA_CHECK(cudaLaunchHostFunc(stream_, &GpuStream::RunSlot, &slot));
  }

 private:
  static constexpr uint64_t kEvents = 256;
  static constexpr uint64_t kSlots = 256;
  struct Slot {
    alignas(std::max_align_t) std::array<char, kMaxWorkBytes> bytes;
    Invoke invoke = nullptr;
    std::atomic<uint64_t>* done = nullptr;
  };

  static void RunSlot(void* argument) {
    auto* slot = static_cast<Slot*>(argument);
    slot->invoke(slot->bytes.data());
    slot->done->fetch_add(1, std::memory_order_release);
  }

  cudaStream_t stream_ = nullptr;
  void* scratch_ = nullptr;
  GemmPlansPointer plans_;
  CudnnPlansPointer cudnn_plans_;
  std::array<cudaEvent_t, kEvents> events_ = {};
  std::array<Slot, kSlots> slots_;
  uint64_t recorded_ = 0;
  uint64_t enqueued_ = 0;
  std::atomic<uint64_t> done_ = 0;
};

}  // namespace

void UseDevice(Device device) {
  CHECK(device.type == DeviceType::kCuda) << ToString(device);
  CUDA_CHECK(cudaSetDevice(device.index));
}

cudaStream_t CudaStream(Stream& stream) {
  UseDevice(stream.device());
  return static_cast<GpuStream&>(stream).handle();
}

Scratch ScratchOf(Stream& stream) {
  UseDevice(stream.device());
  return {static_cast<GpuStream&>(stream).scratch(), kScratchBytes};
}

GemmPlans& PlansOf(Stream& stream) {
  UseDevice(stream.device());
  return static_cast<GpuStream&>(stream).plans();
}

CudnnPlans& CudnnPlansOf(Stream& stream) {
  UseDevice(stream.device());
  return static_cast<GpuStream&>(stream).cudnn_plans();
}

std::unique_ptr<Stream> CreateCudaStream(Device device, Stream::Kind kind) {
  return std::make_unique<GpuStream>(device, kind);
}

bool HasWgmma(Stream& stream) {
  if constexpr (!kForSm90a) return false;
  const char* const setting = std::getenv("UNIPOOL_WGMMA");
  if (setting != nullptr && std::strcmp(setting, "0") == 0) return false;
  int major = 0;
  CUDA_CHECK(
      cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, stream.device().index));
  return major == 9;
}

}  // namespace unipool
