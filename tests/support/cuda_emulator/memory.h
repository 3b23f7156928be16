// Memory of the emulated device. It starts as NaN, has an inaccessible page on either side, and is
// accessible only to kernels and copies: host code that reads a device pointer gets SIGSEGV.
#pragma once

#include <cstddef>

namespace cuda_emulator {

// Returns null if the system refuses.
void* AllocateDevice(size_t bytes);
// Aborts if bytes beside the allocation were written, or if `data` is not device memory.
void FreeDevice(void* data);
// Returns true if [data, data + bytes) lies in one allocation of the device.
bool IsDevice(const void* data, size_t bytes);
// Fills [data, data + bytes), which must lie in one allocation; zeroing does not commit pages.
void FillDevice(void* data, int value, size_t bytes);

// Gives this thread exclusive access to device memory during its lifetime.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace cuda_emulator
