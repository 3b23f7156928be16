// Access to the CUDA objects of a Stream, for files that launch kernels or call CUDA's libraries.
#pragma once

#include <cuda_runtime.h>

#include "runtime/cublas_cuda.h"
#include "runtime/cudnn_cuda.h"
#include "runtime/device.h"
#include "runtime/stream.h"

namespace unipool {

// Makes `device` the current CUDA device of this thread.
void UseDevice(Device device);
// Returns the CUDA handle of `stream`, which must be a GPU stream (CHECK), and makes its device
// current.
cudaStream_t CudaStream(Stream& stream);
// Returns true if kernels may use wgmma (wgmma_cuda.h): on Hopper, in builds for sm_90a, unless
// UNIPOOL_WGMMA=0 is set in the environment.
bool HasWgmma(Stream& stream);
// Device memory that belongs to the stream, for one op's partial results or a library's workspace.
// The next op on the stream may overwrite its contents. Allocated on first use.
struct Scratch {
  void* data;
  size_t bytes;
};
inline constexpr size_t kScratchBytes = size_t{32} << 20;
Scratch ScratchOf(Stream& stream);
// The stream's plans for dense products, created on first use.
GemmPlans& PlansOf(Stream& stream);
// The stream's plans for attention by cuDNN, created on first use.
CudnnPlans& CudnnPlansOf(Stream& stream);

}  // namespace unipool
