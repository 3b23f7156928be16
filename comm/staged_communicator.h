// Ranks whose tensors are in GPU memory, over a communicator of host memory: for several ranks on
// one GPU, and for machines without NCCL. A call on tensors of the GPU waits until the stream has
// come to it, copies through pinned memory of the host, and returns when the result is on the GPU.
// It does not run as work of the host on the stream (Stream::Run): CUDA may run such work of all
// streams of a process one after the other, and two ranks, or two streams, that wait for each other
// there would never end.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "runtime/device.h"

namespace unipool {

// Takes `host` over; its groups (Split) are staged as well. Tensors are on `gpu` or on the host:
// the latter go to `host` straight. Pinned memory grows to the largest tensor met, seldom.
// RESOURCE_EXHAUSTED where there is none.
absl::StatusOr<std::unique_ptr<Communicator>> CreateStagedCommunicator(
    std::unique_ptr<Communicator> host, Device gpu);

}  // namespace unipool
