#include <cuda_runtime.h>
#include <glog/logging.h>

#include <utility>
#include <vector>

#include "runtime/check_cuda.h"
#include "runtime/gpu.h"
#include "runtime/stream_cuda.h"
#include "runtime/stream_timer.h"

namespace unipool {
namespace {

class CudaTimer : public StreamTimer {
 public:
  explicit CudaTimer(Device device) : device_(device) {}

  ~CudaTimer() override {
    UseDevice(device_);
    for (cudaEvent_t event : events_) CUDA_CHECK(cudaEventDestroy(event));
  }

  void Start(Stream& stream) override {
    if (used_ == kMostEvents) seconds_ += TakeSeconds();
    Record(stream);
  }
  void Stop(Stream& stream) override { Record(stream); }

  double TakeSeconds() override {
    CHECK_EQ(used_ % 2, 0u) << "a piece has no end";
    UseDevice(device_);
    double seconds = std::exchange(seconds_, 0.0);
    for (size_t i = 0; i < used_; i += 2) {
      float milliseconds = 0;
      CUDA_CHECK(cudaEventSynchronize(events_[i + 1]));
      CUDA_CHECK(cudaEventElapsedTime(&milliseconds, events_[i], events_[i + 1]));
      seconds += milliseconds / 1e3;
    }
    used_ = 0;
    return seconds;
  }

 private:
  static constexpr size_t kMostEvents = 8192;

  // Events are made once.
  void Record(Stream& stream) {
    cudaStream_t const handle = CudaStream(stream);
    if (used_ == events_.size()) {
      events_.emplace_back();
      CUDA_CHECK(cudaEventCreateWithFlags(&events_.back(), 0));
    }
    CUDA_CHECK(cudaEventRecord(events_[used_++], handle));
  }

  Device device_;
  std::vector<cudaEvent_t> events_;  // a Start and a Stop in turn
  size_t used_ = 0;
  double seconds_ = 0;
};

}  // namespace

std::unique_ptr<StreamTimer> CreateCudaStreamTimer(Device device) {
  return std::make_unique<CudaTimer>(device);
}

}  // namespace unipool
