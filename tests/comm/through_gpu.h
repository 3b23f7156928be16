// A communicator under test whose callers have their tensors on the host: each call copies them to
// the GPU, makes the call there, and copies the results back. The claims of collective_checks.h
// then hold for communicators of GPU memory too.
#pragma once

#include <memory>

#include "comm/communicator.h"
#include "runtime/device.h"

namespace unipool::testing {

// Takes `inner`, of ranks on GPUs, over. Calls on side streams are made on a side stream of `gpu`.
std::unique_ptr<Communicator> ThroughGpu(std::unique_ptr<Communicator> inner, Device gpu);
// The GPU of a rank where ranks are dealt out over all there are.
Device GpuOf(int rank);

}  // namespace unipool::testing
