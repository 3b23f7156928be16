#include <fstream>

#include "absl/strings/str_cat.h"
#include "comm/gpu_identity.h"
#include "runtime/check_cuda.h"

namespace unipool {

std::string GpuIdentity(Device gpu) {
  // The boot id, since containers on one host may have different host names.
  std::string host;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> host;
  char bus_id[32] = "";
  CUDA_CHECK(cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), gpu.index));
  return absl::StrCat(host, "/", bus_id);
}

}  // namespace unipool
