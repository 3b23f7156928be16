// Which GPU a rank has, as all ranks of a job know it.
#pragma once

#include <string>

#include "runtime/device.h"

namespace unipool {

// Equal for two ranks that share a GPU, and else for none. Defined in builds with CUDA only:
// callers elsewhere are inside `if constexpr (kWithCuda)`.
std::string GpuIdentity(Device gpu);

}  // namespace unipool
