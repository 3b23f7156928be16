// A name for a physical GPU that is unique within a job.
#pragma once

#include <string>

#include "runtime/device.h"

namespace unipool {

// "BOOT_ID/PCI_BUS_ID": equal on two ranks if and only if they use the same GPU. The part before
// the '/' identifies the host. Defined in builds with CUDA only: callers elsewhere are inside
// `if constexpr (kWithCuda)`.
std::string GpuIdentity(Device gpu);

}  // namespace unipool
