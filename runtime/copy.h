// Copies between any two devices.
#pragma once

#include "runtime/stream.h"
#include "runtime/tensor.h"

namespace unipool {

// Enqueues to = from, of one shape and type. Where either is on a GPU, `stream` is one of that GPU,
// and the copy runs beside the host only if the host's side is pinned (Buffer::AllocatePinned).
// Both stay untouched by others until the stream has come past it.
void CopyTensor(const Tensor& from, const Tensor& to, Stream& stream);

// The tensor's bytes from memory of the host; they are there when it returns.
void WriteTensor(const void* from, const Tensor& to);

// The tensor's bytes in memory of the host, after all work of its device; waits for them.
void ReadTensor(const Tensor& from, void* to);

}  // namespace unipool
