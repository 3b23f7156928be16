// Ranks with a GPU whose calls may use GPU tensors or host tensors: GPU tensors go to one
// communicator; host tensors go to another, or over the GPU if there is no other.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "runtime/device.h"

namespace unipool {

// Takes ownership of both communicators, which have the same ranks; `on_gpu` takes tensors on
// `gpu`, `host` host tensors. If `host` is null, host tensors are copied to the GPU and back. A
// call on host tensors with a GPU stream first waits until the stream is idle and returns when the
// result is in host memory.
std::unique_ptr<Communicator> CreateMixedDeviceCommunicator(std::unique_ptr<Communicator> on_gpu,
                                                            std::unique_ptr<Communicator> host,
                                                            Device gpu);

}  // namespace unipool
