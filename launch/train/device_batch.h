// A loader's batches where the model computes: as they are on the CPU, on a GPU copied there by way
// of pinned memory while the host goes on.
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

  // For batches of at most `max_tokens` of a rank. RESOURCE_EXHAUSTED where the memory is refused.
  static absl::StatusOr<DeviceBatch> Create(Device device, int64_t max_tokens);

  DeviceBatch() = default;  // for no batch

  // Valid until the next call, which may come while `stream` still works on these.
  Ids Bring(const Batch& batch, Stream& stream);

 private:
  Device device_;
  MirroredTensor ids_;  // tokens, then targets
};

}  // namespace unipool
