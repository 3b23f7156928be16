#include "comm/both_memories.h"

#include <glog/logging.h>

namespace unipool {

BothMemories::BothMemories(Device gpu) : gpu_(gpu), host_stream_(Stream::Create(Device{})) {
  CHECK(gpu.type == DeviceType::kCuda) << ToString(gpu);
}

bool BothMemories::IsOnHost(const Tensor& tensor) const {
  CHECK(tensor.device == Device{} || tensor.device == gpu_)
      << ToString(tensor.device) << " for a rank on " << ToString(gpu_);
  return tensor.device == Device{};
}

Stream& BothMemories::HostStream(Stream& stream) const {
  if (stream.device() == Device{}) return stream;
  stream.Synchronize();
  return *host_stream_;
}

}  // namespace unipool
