#include "runtime/stream_timer.h"

#include <glog/logging.h>

#include <utility>

#include "runtime/event_list_cuda.h"
#include "runtime/gpu.h"

namespace unipool {
namespace {

class CudaTimer : public StreamTimer {
 public:
  explicit CudaTimer(Device device) : points_(device) {}

  void Start(Stream& stream) override {
    if (points_.size() == kMaxPoints) seconds_ = ReadAndReset();
    points_.Record(stream);
  }
  void Stop(Stream& stream) override { points_.Record(stream); }

  double ReadAndReset() override {
    CHECK_EQ(points_.size() % 2, 0) << "Start without Stop";
    double seconds = std::exchange(seconds_, 0.0);
    for (int64_t i = 0; i < points_.size(); i += 2) seconds += points_.Seconds(i, i + 1);
    points_.Clear();
    return seconds;
  }

 private:
  static constexpr int64_t kMaxPoints = 8192;

  EventList points_;  // Start and Stop alternate
  double seconds_ = 0;
};

}  // namespace

std::unique_ptr<StreamTimer> CreateCudaStreamTimer(Device device) {
  return std::make_unique<CudaTimer>(device);
}

}  // namespace unipool
