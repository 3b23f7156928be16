#include "runtime/buffer.h"

#include <glog/logging.h>
#include <sys/mman.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace unipool {

absl::StatusOr<Buffer> Buffer::Allocate(Device device, int64_t bytes) {
  CHECK(device.type == DeviceType::kCpu) << ToString(device);
  CHECK_GE(bytes, 0);
  if (bytes == 0) return Buffer();
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes (",
                                                     bytes >> 20, " MiB) of memory on ",
                                                     ToString(device), ": the system refused"));
  }
  // Large pages spare page faults and TLB misses; where the system has none, nothing is lost.
  constexpr int64_t kHugePageBytes = int64_t{2} << 20;
  if (bytes >= 2 * kHugePageBytes) madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return Buffer(device, data, bytes);
}

Buffer::Buffer(Device device, void* data, int64_t bytes)
    : device_(device), data_(data), bytes_(bytes) {}

Buffer::Buffer(Buffer&& other) noexcept
    : device_(other.device_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  Release();
  device_ = other.device_;
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

Buffer::~Buffer() { Release(); }

void Buffer::Release() {
  if (data_ != nullptr) munmap(data_, static_cast<size_t>(bytes_));
  data_ = nullptr;
  bytes_ = 0;
}

}  // namespace unipool
