// Owned memory. A Buffer is zero-filled when allocated, 64-byte aligned and move-only. On the CPU,
// physical pages are committed when first touched, so reserving more than is used costs only
// address space. On a GPU all of the memory is allocated at once.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/device.h"

namespace unipool {

class Buffer {
 public:
  // Returns RESOURCE_EXHAUSTED with the size in the message if the system refuses.
  static absl::StatusOr<Buffer> Allocate(Device device, int64_t bytes);
  // Allocates host memory that `device` can copy from and to asynchronously and that its kernels
  // can access at the same address (page-locked). For a CPU device this is ordinary memory.
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
