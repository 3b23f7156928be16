// Ranks on GPUs whose tensors may be in either memory: those of the GPU go to one communicator, and
// those of the host to another, or over the GPU where there is no other.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "runtime/device.h"

namespace unipool {

// Takes both over; `host` may be null. They have the same ranks. A call on tensors of the host
// waits until the stream has come to it, where that is one of the GPU, and until it is done.
std::unique_ptr<Communicator> CreateTwoMemoriesCommunicator(std::unique_ptr<Communicator> on_gpu,
                                                            std::unique_ptr<Communicator> host,
                                                            Device gpu);

}  // namespace unipool
