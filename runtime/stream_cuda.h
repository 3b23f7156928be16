// The door from our Stream to CUDA's, for files that launch kernels or call CUDA's libraries.
#pragma once

#include <cuda_runtime.h>

#include "runtime/cublas_cuda.h"
#include "runtime/cudnn_cuda.h"
#include "runtime/device.h"
#include "runtime/stream.h"

namespace unipool {

// Makes `device` the one that this thread's calls of CUDA mean.
void UseDevice(Device device);
// The handle of a stream of a GPU (CHECKed), whose device it makes this thread's.
cudaStream_t CudaStream(Stream& stream);
// Whether kernels may use wgmma (wgmma_cuda.h): on Hopper, in builds for sm_90a, unless the
// environment has UNIPOOL_WGMMA=0.
bool HasWgmma(Stream& stream);
// Memory of the device that belongs to the stream, for one op's partial results or a library's
// workspace: what it holds is gone with the next op on the stream. Made when first asked for.
struct Scratch {
  void* data;
  size_t bytes;
};
inline constexpr size_t kScratchBytes = size_t{32} << 20;
Scratch ScratchOf(Stream& stream);
// The stream's plans for dense products, made when first asked for.
GemmPlans& PlansOf(Stream& stream);
// Likewise for attention by cuDNN.
CudnnPlans& CudnnPlansOf(Stream& stream);

}  // namespace unipool
