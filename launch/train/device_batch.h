// Copies the batches of a loader to the device that the model computes on. On a GPU the copy goes
// through pinned memory and is asynchronous; on the CPU nothing is copied.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "data/batch_loader.h"
#include "runtime/device.h"
#include "runtime/mirrored_tensor.h"
#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

class DeviceBatch {
 public:
  // int32 [tokens] each.
  struct Ids {
    Tensor tokens;
    Tensor targets;
  };

  // For batches of up to `max_tokens` tokens of this rank. RESOURCE_EXHAUSTED if the memory is
  // refused.
  static absl::StatusOr<DeviceBatch> Create(Device device, int64_t max_tokens);

  DeviceBatch() = default;  // for no batch

  // The ids are valid until the next call. That call may follow while `stream` still works with
  // them.
  Ids CopyToDevice(const Batch& batch, Stream& stream);

 private:
  Device device_;
  MirroredTensor ids_;  // tokens, then targets
};

}  // namespace unipool
