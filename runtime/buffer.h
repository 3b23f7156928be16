// Owned memory. A Buffer is zero-filled when made, 64-byte aligned, move-only, and backed by pages
// that become real when first touched: reserving more than is used costs address space only.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/device.h"

namespace unipool {

class Buffer {
 public:
  // RESOURCE_EXHAUSTED, naming the size, when the system refuses.
  static absl::StatusOr<Buffer> Allocate(Device device, int64_t bytes);

  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer();

  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  Device device() const { return device_; }

 private:
  Buffer(Device device, void* data, int64_t bytes);
  void Release();

  Device device_;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
};

}  // namespace unipool
