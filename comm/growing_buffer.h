// Memory that a communicator reuses for the tensors of its calls. It grows to the largest tensor
// seen.
#pragma once

#include "absl/status/status.h"
#include "runtime/buffer.h"
#include "runtime/tensor.h"

namespace unipool {

class GrowingBuffer {
 public:
  enum class Kind : uint8_t { kOnGpu, kPinned };

  // kOnGpu is memory of `gpu`; kPinned is host memory pinned for copies to and from it. Allocates
  // nothing yet.
  GrowingBuffer(Kind kind, Device gpu) : kind_(kind), gpu_(gpu) {}

  // Grows to at least `bytes` and discards the contents if it must grow. RESOURCE_EXHAUSTED if the
  // memory cannot be allocated.
  absl::Status Reserve(int64_t bytes);
  // Returns a tensor with the shape and type of `tensor` at the start of the buffer: it replaces
  // the tensor of the call before and is valid until the next one. CHECKs that memory can be
  // allocated.
  Tensor Like(Tensor tensor);

 private:
  const Kind kind_;
  const Device gpu_;
  Buffer memory_;
};

}  // namespace unipool
