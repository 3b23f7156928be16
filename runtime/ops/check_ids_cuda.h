// Bounds check for kernels that read memory at an index taken from a tensor. Included only by
// *_cuda.cu.
#pragma once

#include <cstdio>

#include "runtime/kernel_cuda.h"

namespace unipool {

// Not inlined, so that the kernels need no stack for printf.
__device__ __noinline__ static void StopAtId(const char* op, int32_t id, int64_t position,
                                             int64_t limit) {
  printf("%s: id %d at position %lld is outside [0, %lld)\n", op, id,
         static_cast<long long>(position), static_cast<long long>(limit));
  __trap();
}

// Returns `id` if it is in [0, limit). Otherwise aborts the kernel and prints `op`, the id and its
// position; the host sees the error at its next call that waits for the device.
__device__ __forceinline__ int64_t CheckedId(const char* op, int32_t id, int64_t position,
                                             int64_t limit) {
  if (id >= 0 && id < limit) return id;
  StopAtId(op, id, position, limit);
  __builtin_unreachable();
}

}  // namespace unipool
