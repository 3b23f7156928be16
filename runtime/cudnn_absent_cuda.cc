// Implements runtime/cudnn_cuda.h in builds without cuDNN.
#include <glog/logging.h>

#include "runtime/build_config.h"
#include "runtime/cudnn_cuda.h"
#include "runtime/gpu.h"

namespace unipool {

class CudnnPlans {};
void DeleteCudnnPlans::operator()(CudnnPlans* plans) const { delete plans; }
CudnnPlansPointer NewCudnnPlans(Stream& /*stream*/) { return CudnnPlansPointer(new CudnnPlans); }

bool RunCudnnAttention(const CudnnAttention& /*attention*/, Stream& /*stream*/) {
  if constexpr (!kEmulatesCuda) {
    LOG_FIRST_N(INFO, 1) << "attention by own kernels: this build has no cuDNN";
  }
  return false;
}

LibraryVersion CudnnVersion() { return {}; }

}  // namespace unipool
