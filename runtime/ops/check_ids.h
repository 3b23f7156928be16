// Bounds check for ops that read memory at an index taken from a tensor. Included only by *_cpu.cc.
#pragma once

#include <cstdint>

#include "runtime/tensor.h"

namespace unipool {

// Aborts if an id (int32) is outside [lowest, limit); the message names `op`, the first such id and
// its position.
void CheckIds(const char* op, const Tensor& ids, int64_t limit, int32_t lowest = 0);

}  // namespace unipool
