#include "comm/host_tensor_calls.h"

#include <glog/logging.h>

namespace unipool {

HostTensorCalls::HostTensorCalls(Device gpu) : gpu_(gpu), idle_stream_(Stream::Create(Device{})) {
  CHECK(gpu.type == DeviceType::kCuda) << ToString(gpu);
}

bool HostTensorCalls::IsOnHost(const Tensor& tensor) const {
  CHECK(tensor.device == Device{} || tensor.device == gpu_)
      << "a tensor on " << ToString(tensor.device) << " for a rank on " << ToString(gpu_);
  return tensor.device == Device{};
}

Stream& HostTensorCalls::StreamAfter(Stream& stream) const {
  if (stream.device() == Device{}) return stream;
  stream.Synchronize();
  return *idle_stream_;
}

}  // namespace unipool
