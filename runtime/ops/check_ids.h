// The guard of every op that reads memory at an index taken from a tensor. For *_cpu.cc only.
#pragma once

#include <cstdint>

#include "runtime/tensor.h"

namespace unipool {

// Ends the process, naming `op`, the first id outside [0, limit) and its position. ids is int32.
void CheckIds(const char* op, const Tensor& ids, int64_t limit);

}  // namespace unipool
