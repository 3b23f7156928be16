// The profiler's clock of a GPU: CUDA events, made when first needed and then used again.
#include <cstdint>
#include <memory>
#include <vector>

#include "runtime/check_cuda.h"
#include "runtime/gpu.h"
#include "runtime/profiler.h"
#include "runtime/stream_cuda.h"

namespace unipool {
namespace {

class GpuClock : public DeviceClock {
 public:
  explicit GpuClock(Stream& stream) : stream_(stream) {}
  ~GpuClock() override {
    UseDevice(stream_.device());
    for (cudaEvent_t event : events_) CUDA_CHECK(cudaEventDestroy(event));
  }

  int64_t Mark() override {
    const cudaStream_t stream = CudaStream(stream_);
    if (next_ == static_cast<int64_t>(events_.size())) {
      CUDA_CHECK(cudaEventCreateWithFlags(&events_.emplace_back(), cudaEventDefault));
    }
    CUDA_CHECK(cudaEventRecord(events_[next_], stream));
    return next_++;
  }

  double Seconds(int64_t begin, int64_t end) override {
    UseDevice(stream_.device());
    CUDA_CHECK(cudaEventSynchronize(events_[end]));
    float milliseconds = 0;
    CUDA_CHECK(cudaEventElapsedTime(&milliseconds, events_[begin], events_[end]));
    return 1e-3 * milliseconds;
  }

  void Restart() override { next_ = 0; }

 private:
  Stream& stream_;
  std::vector<cudaEvent_t> events_;
  int64_t next_ = 0;
};

}  // namespace

std::unique_ptr<DeviceClock> CreateGpuClock(Stream& stream) {
  return std::make_unique<GpuClock>(stream);
}

}  // namespace unipool
