// Copies between any two devices.
#pragma once

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

// Enqueues the copy to = from; both tensors have the same shape and dtype. If either is on a GPU,
// `stream` must be a stream of that GPU, and the copy is asynchronous to the host only if the host
// side is pinned (Buffer::AllocatePinned). The caller must not write either tensor, nor read `to`,
// until the stream has executed the copy.
void CopyTensor(const Tensor& from, const Tensor& to, Stream& stream);

// Copies the tensor's bytes from host memory at `from`; the copy is complete on return.
void WriteTensor(const void* from, const Tensor& to);

// Copies the tensor's bytes to host memory at `to`, after all work enqueued on the tensor's device;
// blocks until complete.
void ReadTensor(const Tensor& from, void* to);

}  // namespace unipool
