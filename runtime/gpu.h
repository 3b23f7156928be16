// What the host's code asks of CUDA, without CUDA's headers. Defined in builds with CUDA only
// (runtime/*_cuda.cc): callers elsewhere are inside
// `if constexpr (kWithCuda)`.
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

// GPUs that this process can use: 0 where there is no driver.
int NumGpus();
// "NVIDIA H100 80GB HBM3, sm_90, 79 GiB", or the reason why there is none.
std::string DescribeGpu(Device device);
// The CUDA runtime that is linked into the program, and the newest CUDA that the driver supports.
LibraryVersion CudaVersion();
// Loads cuDNN. `built` is "" in a build without it.
LibraryVersion CudnnVersion();
int64_t GpuMemoryBytes(Device device);
// Of that, what nobody has taken yet.
int64_t FreeGpuBytes(Device device);

// Zero-filled; null when the device has not that much. Waits for the device.
void* AllocateOnGpu(Device device, int64_t bytes);
void FreeOnGpu(Device device, void* data);
// Page-locked memory of the host, zero-filled, that kernels of `device` may touch too; null where
// it is refused.
void* AllocatePinnedFor(Device device, int64_t bytes);
void FreePinned(void* data);

std::unique_ptr<Stream> CreateCudaStream(Device device, Stream::Kind kind);
// Of a stream of a GPU, which is borrowed and outlives it.
std::unique_ptr<DeviceClock> CreateGpuClock(Stream& stream);
std::unique_ptr<StreamTimer> CreateCudaStreamTimer(Device device);
// Enqueues a copy; either side may be the host's memory, which then is pinned or the call may wait.
void EnqueueCopy(void* to, const void* from, size_t bytes, Stream& stream);
// After all work of the device; waits until the bytes are there.
void ReadFromGpu(Device device, void* to, const void* from, size_t bytes);
// The other way.
void WriteToGpu(Device device, void* to, const void* from, size_t bytes);

}  // namespace unipool
