// Functions of the CUDA runtime for host code, without CUDA's headers. They are defined only in
// builds with CUDA (runtime/*_cuda.cc), so callers in other files
// must be inside `if constexpr (kWithCuda)`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "runtime/device.h"
#include "runtime/library_version.h"
#include "runtime/profiler.h"
#include "runtime/stream.h"
#include "runtime/stream_timer.h"

namespace unipool {

// Number of GPUs visible to this process; 0 if there is no driver.
int NumGpus();
// Returns e.g. "NVIDIA H100 80GB HBM3, sm_90, 79 GiB", or the reason why the GPU is not usable.
std::string DescribeGpu(Device device);
// The CUDA runtime that is linked into the program, and the newest CUDA that the driver supports.
LibraryVersion CudaVersion();
// Loads cuDNN. `built` is "" in a build without it.
LibraryVersion CudnnVersion();
int64_t GpuMemoryBytes(Device device);
// Memory that no process has allocated.
int64_t FreeGpuBytes(Device device);

// Returns zero-filled device memory, or null if the device has not enough. Synchronizes the device.
void* AllocateOnGpu(Device device, int64_t bytes);
void FreeOnGpu(Device device, void* data);
// Returns zero-filled page-locked host memory that kernels of `device` can access too, or null if
// the system refuses.
void* AllocatePinnedFor(Device device, int64_t bytes);
void FreePinned(void* data);

std::unique_ptr<Stream> CreateCudaStream(Device device, Stream::Kind kind);
// Creates a clock for a GPU stream, which is borrowed and must outlive the clock.
std::unique_ptr<DeviceClock> CreateGpuClock(Stream& stream);
std::unique_ptr<StreamTimer> CreateCudaStreamTimer(Device device);
// Enqueues a copy. Either side may be host memory; if that is not pinned, the call may block.
void EnqueueCopy(void* to, const void* from, size_t bytes, Stream& stream);
// Copies device memory to host memory after all work enqueued on the device; blocks until complete.
void ReadFromGpu(Device device, void* to, const void* from, size_t bytes);
// Copies host memory to device memory; blocks until complete.
void WriteToGpu(Device device, void* to, const void* from, size_t bytes);

}  // namespace unipool
