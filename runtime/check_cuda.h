// CUDA_CHECK wraps every call of the CUDA runtime: if the call fails, the process aborts and
// reports the expression, the rank and the device. This header does not include glog, so kernels
// compile fast.
#pragma once

#include <cuda_runtime.h>

namespace unipool {

// `code` is a cudaError_t.
[[noreturn]] void CudaFail(const char* expression, const char* file, int line, int code);
// The same for libraries other than the CUDA runtime; `what` is the library's error text.
[[noreturn]] void GpuFail(const char* expression, const char* file, int line, const char* what);

}  // namespace unipool

#define CUDA_CHECK(expression)                                                                 \
  do {                                                                                         \
    const cudaError_t cuda_check_code = (expression);                                          \
    if (cuda_check_code != cudaSuccess) {                                                      \
      ::unipool::CudaFail(#expression, __FILE__, __LINE__, static_cast<int>(cuda_check_code)); \
    }                                                                                          \
  } while (false)
