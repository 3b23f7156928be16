// For communicators of a rank with a GPU that also accept host tensors: distinguishes host tensors
// from device tensors, and orders a call on host tensors after the work on the caller's stream.
#pragma once

#include <memory>

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

class HostTensorCalls {
 public:
  explicit HostTensorCalls(Device gpu);

  Device gpu() const { return gpu_; }
  // Returns true for a tensor in host memory; CHECKs that any other is on gpu().
  bool IsOnHost(const Tensor& tensor) const;
  // Returns a host stream for a call that must follow the work enqueued on `stream`: `stream`
  // itself if it is a host stream; else waits until the GPU stream is idle and returns
  // idle_stream().
  Stream& StreamAfter(Stream& stream) const;
  // A host stream that runs work immediately.
  Stream& idle_stream() const { return *idle_stream_; }

 private:
  const Device gpu_;
  const std::unique_ptr<Stream> idle_stream_;
};

}  // namespace unipool
