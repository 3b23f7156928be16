// The guard of every kernel that reads memory at an index taken from a tensor. For *_cuda.cu only.
#pragma once

#include <cstdio>

#include "runtime/kernel_cuda.h"

namespace unipool {

// Apart, so that the kernels need no stack for printf.
__device__ __noinline__ static void StopAtId(const char* op, int32_t id, int64_t position,
                                             int64_t limit) {
  printf("%s: id %d at position %lld is outside [0, %lld)\n", op, id,
         static_cast<long long>(position), static_cast<long long>(limit));
  __trap();
}

// The id, or the end of the process, naming `op`, the id and its position, where it is outside
// [0, limit). The line is written when the host next waits for the device, whose call then fails.
__device__ __forceinline__ int64_t CheckedId(const char* op, int32_t id, int64_t position,
                                             int64_t limit) {
  if (id >= 0 && id < limit) return id;
  StopAtId(op, id, position, limit);
  __builtin_unreachable();
}

}  // namespace unipool
