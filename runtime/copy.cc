#include "runtime/copy.h"

#include <glog/logging.h>

#include <cstring>

#include "runtime/build_config.h"
#include "runtime/gpu.h"

namespace unipool {

void CopyTensor(const Tensor& from, const Tensor& to, Stream& stream) {
  CHECK(from.SameShape(to) && from.dtype == to.dtype)
      << from.ShapeString() << " to " << to.ShapeString();
  if (from.empty()) return;
  const auto bytes = static_cast<size_t>(from.bytes());
  if (from.device == Device{} && to.device == Device{}) {
    stream.Run([to_data = to.data, from_data = from.data, bytes] {
      std::memcpy(to_data, from_data, bytes);
    });
    return;
  }
  const Device gpu = from.device == Device{} ? to.device : from.device;
  CHECK(stream.device() == gpu) << "from " << ToString(from.device) << " to " << ToString(to.device)
                                << " on " << ToString(stream.device());
  if constexpr (kWithCuda) EnqueueCopy(to.data, from.data, bytes, stream);
}

void WriteTensor(const void* from, const Tensor& to) {
  if (to.empty()) return;
  const auto bytes = static_cast<size_t>(to.bytes());
  if constexpr (kWithCuda) {
    if (to.device.type == DeviceType::kCuda) return WriteToGpu(to.device, to.data, from, bytes);
  }
  std::memcpy(to.data, from, bytes);
}

void ReadTensor(const Tensor& from, void* to) {
  if (from.empty()) return;
  const auto bytes = static_cast<size_t>(from.bytes());
  if constexpr (kWithCuda) {
    if (from.device.type == DeviceType::kCuda) {
      return ReadFromGpu(from.device, to, from.data, bytes);
    }
  }
  std::memcpy(to, from.data, bytes);
}

}  // namespace unipool
