#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <string>

#include "tests/support/cuda_emulator/cuda_runtime.h"

#include "tests/support/cuda_emulator/fibers.h"
#include "tests/support/cuda_emulator/memory.h"

struct CUstream_st {
  int device;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point when;
};

namespace cuda_emulator {
namespace {

// Number of devices: UNIPOOL_EMULATED_GPUS or 2; at most the number of devices in
// CUDA_VISIBLE_DEVICES.
int Devices() {
  static const int devices = [] {
    const char* const setting = std::getenv("UNIPOOL_EMULATED_GPUS");
    const int all = setting != nullptr ? std::atoi(setting) : 2;
    const char* const visible = std::getenv("CUDA_VISIBLE_DEVICES");
    if (visible == nullptr) return all;
    const std::string names = visible;
    const auto commas = std::count(names.begin(), names.end(), ',');
    return names.empty() ? 0 : std::min(all, static_cast<int>(commas) + 1);
  }();
  return devices;
}
constexpr int kMultiprocessors = 3;  // few, so that small tests fill them several times
constexpr size_t kDefaultSharedBytes = 48 << 10;
constexpr size_t kMaxSharedPerBlock = 227 << 10;

thread_local int g_device = 0;
thread_local cudaError_t g_last = cudaSuccess;

cudaError_t SetLast(cudaError_t error) {
  if (error != cudaSuccess) g_last = error;
  return error;
}

// Kernels for which more than the default maximum of shared memory is allowed, and how much.
// Accessed only under DeviceAccess.
std::map<const void*, size_t>& AllowedShared() {
  static auto* allowed = new std::map<const void*, size_t>;
  return *allowed;
}

void CheckPlace(const char* what, const void* data, size_t bytes, bool device) {
  if (bytes == 0 || IsDevice(data, bytes) == device) return;
  Stop("cudaMemcpy: the %s, %zu bytes at %p, is %s device memory", what, bytes, data,
       device ? "not" : "in");
}

}  // namespace

cudaError_t Launch(const cudaLaunchConfig_t& config, const void* kernel, void (*call)(void*),
                   void* context) {
  const dim3 blocks = config.gridDim, threads = config.blockDim;
  const size_t num_threads = size_t{threads.x} * threads.y * threads.z;
  if (num_threads == 0 || num_threads > kMaxThreads || blocks.x == 0 || blocks.y == 0 ||
      blocks.z == 0 || blocks.y > 65535 || blocks.z > 65535) {
    return SetLast(cudaErrorInvalidConfiguration);
  }
  DeviceAccess access;
  if (config.dynamicSmemBytes > kDefaultSharedBytes &&
      config.dynamicSmemBytes > AllowedShared()[kernel]) {
    return SetLast(cudaErrorInvalidValue);
  }
  RunGrid({.blocks = {blocks.x, blocks.y, blocks.z},
           .threads = {threads.x, threads.y, threads.z},
           .shared_bytes = config.dynamicSmemBytes},
          call, context);
  return cudaSuccess;
}

}  // namespace cuda_emulator

using cuda_emulator::DeviceAccess;
using cuda_emulator::SetLast;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    default:
      return "cudaError";
  }
}
const char* cudaGetErrorString(cudaError_t) { return "emulated"; }
cudaError_t cudaGetLastError() { return std::exchange(cuda_emulator::g_last, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return cuda_emulator::g_last; }

// The version of CUDA whose calls are emulated.
constexpr int kVersion = 13000;

cudaError_t cudaRuntimeGetVersion(int* version) {
  *version = kVersion;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int* version) { return cudaRuntimeGetVersion(version); }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = cuda_emulator::Devices();
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = cuda_emulator::g_device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char* bus_id, int bytes, int device) {
  std::snprintf(bus_id, static_cast<size_t>(bytes), "0000:%02x:00.0", device);
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (device < 0 || device >= cuda_emulator::Devices()) return SetLast(cudaErrorInvalidDevice);
  cuda_emulator::g_device = device;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = cuda_emulator::kMultiprocessors;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(cuda_emulator::kMaxSharedPerBlock);
      return cudaSuccess;
  }
  return SetLast(cudaErrorInvalidValue);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "emulated GPU");
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* free_bytes, size_t* total_bytes) {
  *total_bytes = static_cast<size_t>(sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE));
  *free_bytes = *total_bytes / 2;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, size_t bytes) {
  *data = cuda_emulator::AllocateDevice(bytes);
  return SetLast(*data != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void* data) {
  if (data != nullptr) cuda_emulator::FreeDevice(data);
  return cudaSuccess;
}
cudaError_t cudaHostAlloc(void** data, size_t bytes, unsigned) {
  constexpr size_t kPage = 4096;
  *data = std::aligned_alloc(kPage, (bytes + kPage - 1) / kPage * kPage);
  return SetLast(*data != nullptr ? cudaSuccess : cudaErrorMemoryAllocation);
}
cudaError_t cudaHostGetDevicePointer(void** device, void* host, unsigned) {
  *device = host;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* data) {
  std::free(data);
  return cudaSuccess;
}
cudaError_t cudaMemset(void* data, int value, size_t bytes) {
  cuda_emulator::CheckPlace("target of cudaMemset", data, bytes, true);
  cuda_emulator::FillDevice(data, value, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* data, int value, size_t bytes, cudaStream_t) {
  return cudaMemset(data, value, bytes);
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault) {
    cuda_emulator::CheckPlace("target", to, bytes, to_device);
    cuda_emulator::CheckPlace("source", from, bytes, from_device);
  }
  DeviceAccess access;
  if (bytes > 0) std::memmove(to, from, bytes);
  return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t) {
  return cudaMemcpy(to, from, bytes, kind);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st{cuda_emulator::g_device};
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* argument) {
  function(argument);
  return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new CUevent_st{};
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->when = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->when - begin->when).count();
  return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  DeviceAccess access;
  const auto bytes = static_cast<size_t>(value);
  if (bytes > cuda_emulator::kMaxSharedPerBlock) return SetLast(cudaErrorInvalidValue);
  cuda_emulator::AllowedShared()[kernel] = bytes;
  return cudaSuccess;
}
