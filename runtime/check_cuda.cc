#include "runtime/check_cuda.h"

#include <glog/logging.h>

#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"

namespace unipool {
namespace {

// The rank from the launcher's environment, because a failing call has no Communicator.
const char* Rank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "RANK", "SLURM_PROCID"}) {
    if (const char* rank = std::getenv(name)) return rank;
  }
  return "0";
}

}  // namespace

void GpuFail(const char* expression, const char* file, int line, const char* what) {
  int device = -1;
  cudaGetDevice(&device);
  google::LogMessageFatal(file, line).stream()
      << "rank " << Rank() << ", cuda:" << device << ": " << expression << ": " << what;
  std::abort();
}

void CudaFail(const char* expression, const char* file, int line, int code) {
  const auto error = static_cast<cudaError_t>(code);
  const std::string what = absl::StrCat(cudaGetErrorName(error), ": ", cudaGetErrorString(error));
  GpuFail(expression, file, line, what.c_str());
}

}  // namespace unipool
