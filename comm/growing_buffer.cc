#include "comm/growing_buffer.h"

#include <glog/logging.h>

#include <algorithm>

#include "runtime/status.h"

namespace unipool {

absl::Status GrowingBuffer::Reserve(int64_t bytes) {
  if (bytes <= memory_.bytes()) return absl::OkStatus();
  bytes = std::max(bytes, memory_.bytes() / 2 * 3);
  ASSIGN_OR_RETURN(memory_, kind_ == Kind::kPinned ? Buffer::AllocatePinned(gpu_, bytes)
                                                   : Buffer::Allocate(gpu_, bytes));
  return absl::OkStatus();
}

Tensor GrowingBuffer::Like(Tensor tensor) {
  const absl::Status reserved = Reserve(tensor.bytes());
  CHECK(reserved.ok()) << reserved.message();
  tensor.data = memory_.data();
  tensor.device = kind_ == Kind::kPinned ? Device{} : gpu_;
  return tensor;
}

}  // namespace unipool
