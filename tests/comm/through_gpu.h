// Wraps a communicator of GPU memory for callers whose tensors are on the host: each call copies
// the tensors to the GPU, makes the call there, and copies the results back. This runs the checks
// of collective_checks.h on communicators of GPU memory.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "runtime/device.h"

namespace unipool::testing {

// Takes ownership of `inner`, whose tensors are on `gpu`. Calls on side streams run on a side
// stream of `gpu`.
std::unique_ptr<Communicator> ThroughGpu(std::unique_ptr<Communicator> inner, Device gpu);
// The GPU of a rank when ranks are distributed round-robin over all GPUs; the CPU without CUDA.
Device GpuOf(int rank);

}  // namespace unipool::testing
