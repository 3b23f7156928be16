// Memory that a communicator keeps for the tensors of one call: it grows to the largest one met.
#pragma once

#include "absl/status/status.h"
#include "runtime/buffer.h"
#include "runtime/tensor.h"

namespace unipool {

class GrownMemory {
 public:
  enum class Kind : uint8_t { kOnGpu, kPinned };

  GrownMemory(Kind kind, Device gpu) : kind_(kind), gpu_(gpu) {}

  // RESOURCE_EXHAUSTED where there is not so much.
  absl::Status Reserve(int64_t bytes);
  // Room for a tensor like this one, in place of the last one's; CHECKs that there is memory.
  Tensor Like(Tensor tensor);

 private:
  const Kind kind_;
  const Device gpu_;
  Buffer memory_;
};

}  // namespace unipool
