// Memory of the emulated device: starts as NaN, has a page on either side that nobody may touch,
// and can be touched by kernels and copies only: host code that reads a device pointer gets
// SIGSEGV.
#pragma once

#include <cstddef>

namespace cuda_emulator {

// Null when the system refuses.
void* AllocateDevice(size_t bytes);
// Ends the process where bytes beside the memory were written, or it is not the device's.
void FreeDevice(void* data);
// True where [data, data + bytes) lies in one allocation of the device.
bool IsDevice(const void* data, size_t bytes);
// Zeroes without making pages real; data and bytes as IsDevice has them.
void FillDevice(void* data, int value, size_t bytes);

// While it lives, device memory can be touched by this thread, and no other thread has one.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace cuda_emulator
