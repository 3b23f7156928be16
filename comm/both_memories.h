// What communicators share that take tensors of a GPU and of the host: telling them apart, and the
// turn of a call on the host's memory in the work of either's stream.
#pragma once

#include <memory>

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

class BothMemories {
 public:
  explicit BothMemories(Device gpu);

  Device gpu() const { return gpu_; }
  // CHECKs that it is in one of the two.
  bool IsOnHost(const Tensor& tensor) const;
  // A stream of the host for a call that belongs behind the work of `stream` so far.
  Stream& HostStream(Stream& stream) const;
  // A stream of the host behind which nothing is waited for.
  Stream& host_stream() const { return *host_stream_; }

 private:
  const Device gpu_;
  const std::unique_ptr<Stream> host_stream_;
};

}  // namespace unipool
