#include "runtime/stream_timer.h"

#include <chrono>
#include <utility>

#include "runtime/build_config.h"
#include "runtime/gpu.h"

namespace unipool {
namespace {

using Clock = std::chrono::steady_clock;

class HostTimer : public StreamTimer {
 public:
  void Start(Stream&) override { start_ = Clock::now(); }
  void Stop(Stream& stream) override {
    stream.Synchronize();
    seconds_ += std::chrono::duration<double>(Clock::now() - start_).count();
  }
  double ReadAndReset() override { return std::exchange(seconds_, 0.0); }

 private:
  Clock::time_point start_;
  double seconds_ = 0;
};

}  // namespace

std::unique_ptr<StreamTimer> StreamTimer::Create(Device device) {
  if constexpr (kWithCuda) {
    if (device.type == DeviceType::kCuda) return CreateCudaStreamTimer(device);
  }
  return std::make_unique<HostTimer>();
}

}  // namespace unipool
