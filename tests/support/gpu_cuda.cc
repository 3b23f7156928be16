#include <cuda_runtime.h>

#include "runtime/build_config.h"
#include "tests/support/gpu.h"

namespace unipool::testing {

const char* WhyNoGpu() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return count == 0 ? "no GPU" : "";
}

bool GpuIsEmulated() { return kEmulatesCuda; }

}  // namespace unipool::testing
