// Ranks whose tensors are in GPU memory, over a communicator of host memory: for several ranks that
// share a GPU, and for machines without NCCL. A call on GPU tensors waits for the work of its
// stream, copies the tensors through pinned host memory, and returns when the result is on the GPU.
// It does not run as a host function on the stream (Stream::Run), because CUDA may serialize the
// host functions of all streams of a process: two ranks or two streams that wait for each other in
// such functions would deadlock.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "runtime/device.h"

namespace unipool {

// Takes ownership of `host`; groups made by Split are staged as well. Tensors are on `gpu` or on
// the host; calls on host tensors go to `host` directly. Pinned buffers grow to the largest tensor.
// RESOURCE_EXHAUSTED if they cannot be allocated; a later failure to grow is a CHECK.
absl::StatusOr<std::unique_ptr<Communicator>> CreateStagedCommunicator(
    std::unique_ptr<Communicator> host, Device gpu);

}  // namespace unipool
