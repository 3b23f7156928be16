// Owned memory. A Buffer is zero-filled when made, 64-byte aligned and move-only. On the CPU it is
// backed by pages that become real when first touched: reserving more than is used costs address
// space only. On a GPU it is the device's memory, all of it taken at once.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/device.h"

namespace unipool {

class Buffer {
 public:
  // RESOURCE_EXHAUSTED, naming the size, when the system refuses.
  static absl::StatusOr<Buffer> Allocate(Device device, int64_t bytes);
  // Memory of the host that `device` copies from and to without waiting, and that its kernels may
  // read and write at the same address; ordinary memory for the CPU.
  static absl::StatusOr<Buffer> AllocatePinned(Device device, int64_t bytes);

  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  Device device() const { return device_; }

 private:
  enum class Kind : uint8_t { kPages, kPinned, kCuda };
  Buffer(Kind kind, Device device, void* data, int64_t bytes);
  void Release();

  Kind kind_ = Kind::kPages;
  Device device_;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace unipool
