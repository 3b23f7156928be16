#include "launch/train/device_batch.h"

#include <glog/logging.h>

#include <cstring>

#include "runtime/status.h"

namespace unipool {

absl::StatusOr<DeviceBatch> DeviceBatch::Create(Device device, int64_t max_tokens) {
  DeviceBatch self;
  self.device_ = device;
  if (device == Device{}) return self;
  ASSIGN_OR_RETURN(self.ids_, MirroredTensor::Create(device, DType::kInt32, 2 * max_tokens));
  return self;
}

DeviceBatch::Ids DeviceBatch::CopyToDevice(const Batch& batch, Stream& stream) {
  if (device_ == Device{}) return {batch.tokens, batch.targets};
  const int64_t tokens = batch.tokens.numel();
  CHECK_LE(2 * tokens, ids_.size());
  const auto bytes = static_cast<size_t>(batch.tokens.bytes());
  int32_t* const host = ids_.on_host().as<int32_t>();
  if (bytes > 0) {
    std::memcpy(host, batch.tokens.data, bytes);
    std::memcpy(host + tokens, batch.targets.data, bytes);
  }
  ids_.Upload(stream);
  return {ids_.on_device().Rows(0, tokens), ids_.on_device().Rows(tokens, 2 * tokens)};
}

}  // namespace unipool
