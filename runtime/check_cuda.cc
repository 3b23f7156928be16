#include "runtime/check_cuda.h"

#include <glog/logging.h>

#include <cstdlib>

namespace unipool {
namespace {

// The launcher's word, as a failing call has no Communicator at hand.
const char* Rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_PROCID"}) {
    if (const char* rank = std::getenv(name)) return rank;
  }
  return "0";
}

}  // namespace

void CudaFail(const char* expression, const char* file, int line, int code) {
  int device = -1;
  cudaGetDevice(&device);
  const auto error = static_cast<cudaError_t>(code);
  google::LogMessageFatal(file, line).stream()
      << "rank " << Rank() << ", cuda:" << device << ": " << expression << ": "
      << cudaGetErrorName(error) << ": " << cudaGetErrorString(error);
  std::abort();
}

}  // namespace unipool
