// The profiler's clock for a GPU stream.
#include <memory>

#include "runtime/event_list_cuda.h"
#include "runtime/gpu.h"
#include "runtime/profiler.h"

namespace unipool {
namespace {

class GpuClock : public DeviceClock {
 public:
  explicit GpuClock(Stream& stream) : stream_(stream), points_(stream.device()) {}

  int64_t Mark() override { return points_.Record(stream_); }
  double Seconds(int64_t begin, int64_t end) override { return points_.Seconds(begin, end); }
  void Restart() override { points_.Clear(); }

 private:
  Stream& stream_;
  EventList points_;
};

}  // namespace

std::unique_ptr<DeviceClock> CreateGpuClock(Stream& stream) {
  return std::make_unique<GpuClock>(stream);
}

}  // namespace unipool
