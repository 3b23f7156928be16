#include "runtime/gpu.h"

#include <glog/logging.h>

#include <cstring>

#include "absl/strings/str_cat.h"
#include "runtime/check_cuda.h"
#include "runtime/stream_cuda.h"

namespace unipool {
namespace {

int Attribute(cudaDeviceAttr attribute, Device device) {
  int value = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&value, attribute, device.index));
  return value;
}

// 13000 is "13.0".
std::string VersionText(int version) {
  return absl::StrCat(version / 1000, ".", version % 1000 / 10);
}

}  // namespace

int NumGpus() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

std::string DescribeGpu(Device device) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  if (device.index >= count) return absl::StrCat("only ", count, " GPUs");
  cudaDeviceProp properties;
  CUDA_CHECK(cudaGetDeviceProperties(&properties, device.index));
  return absl::StrCat(properties.name, ", sm_",
                      Attribute(cudaDevAttrComputeCapabilityMajor, device),
                      Attribute(cudaDevAttrComputeCapabilityMinor, device), ", ",
                      GpuMemoryBytes(device) >> 30, " GiB");
}

LibraryVersion CudaVersion() {
  int runtime = 0, driver = 0;
  CUDA_CHECK(cudaRuntimeGetVersion(&runtime));
  CUDA_CHECK(cudaDriverGetVersion(&driver));
  return {.built = VersionText(runtime),
          .found = driver == 0 ? "no driver" : "driver for CUDA " + VersionText(driver)};
}

int64_t GpuMemoryBytes(Device device) {
  UseDevice(device);
  size_t free_bytes = 0, total_bytes = 0;
  CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  return static_cast<int64_t>(total_bytes);
}

int64_t FreeGpuBytes(Device device) {
  UseDevice(device);
  size_t free_bytes = 0, total_bytes = 0;
  CUDA_CHECK(cudaMemGetInfo(&free_bytes, &total_bytes));
  return static_cast<int64_t>(free_bytes);
}

void* AllocateOnGpu(Device device, int64_t bytes) {
  UseDevice(device);
  void* data = nullptr;
  const cudaError_t error = cudaMalloc(&data, static_cast<size_t>(bytes));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // clears the error, which the next check would report otherwise
    return nullptr;
  }
  CUDA_CHECK(error);
  CUDA_CHECK(cudaMemset(data, 0, static_cast<size_t>(bytes)));
  CUDA_CHECK(cudaDeviceSynchronize());
  return data;
}

void FreeOnGpu(Device device, void* data) {
  UseDevice(device);
  CUDA_CHECK(cudaFree(data));
}

void* AllocatePinnedFor(Device device, int64_t bytes) {
  UseDevice(device);
  void* data = nullptr;
  const cudaError_t error =
      cudaHostAlloc(&data, static_cast<size_t>(bytes), cudaHostAllocPortable | cudaHostAllocMapped);
  // Virtual machines and containers may refuse pinned memory.
  if (error != cudaSuccess) {
    cudaGetLastError();
    return nullptr;
  }
  std::memset(data, 0, static_cast<size_t>(bytes));
  return data;
}

void FreePinned(void* data) { CUDA_CHECK(cudaFreeHost(data)); }

void EnqueueCopy(void* to, const void* from, size_t bytes, Stream& stream) {
  CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, CudaStream(stream)));
}

void ReadFromGpu(Device device, void* to, const void* from, size_t bytes) {
  UseDevice(device);
  CUDA_CHECK(cudaDeviceSynchronize());
  CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost));
}

void WriteToGpu(Device device, void* to, const void* from, size_t bytes) {
  UseDevice(device);
  CUDA_CHECK(cudaDeviceSynchronize());
  CUDA_CHECK(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
  CUDA_CHECK(cudaDeviceSynchronize());
}

}  // namespace unipool
