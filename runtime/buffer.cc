#include "runtime/buffer.h"

#include <glog/logging.h>
#include <sys/mman.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/build_config.h"
#include "runtime/gpu.h"

namespace unipool {
namespace {

absl::Status Refused(const char* what, Device device, int64_t bytes) {
  return absl::ResourceExhaustedError(absl::StrCat("cannot allocate ", bytes, " bytes (",
                                                   bytes >> 20, " MiB) of ", what, " on ",
                                                   ToString(device), ": the system refused"));
}

}  // namespace

absl::StatusOr<Buffer> Buffer::Allocate(Device device, int64_t bytes) {
  CHECK_GE(bytes, 0);
  if (bytes == 0) return Buffer();
  if constexpr (kWithCuda) {
    if (device.type == DeviceType::kCuda) {
      void* data = AllocateOnGpu(device, bytes);
      if (data == nullptr) return Refused("memory", device, bytes);
      return Buffer(Kind::kCuda, device, data, bytes);
    }
  }
  CHECK(device.type == DeviceType::kCpu) << ToString(device) << " in a build without CUDA";
  void* data = mmap(nullptr, static_cast<size_t>(bytes), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) return Refused("memory", device, bytes);
  // Huge pages reduce page faults and TLB misses. The call may fail if the system has none; that is
  // harmless.
  constexpr int64_t kHugePageBytes = int64_t{2} << 20;
  if (bytes >= 2 * kHugePageBytes) madvise(data, static_cast<size_t>(bytes), MADV_HUGEPAGE);
  return Buffer(Kind::kPages, device, data, bytes);
}

absl::StatusOr<Buffer> Buffer::AllocatePinned(Device device, int64_t bytes) {
  CHECK_GE(bytes, 0);
  if constexpr (kWithCuda) {
    if (device.type == DeviceType::kCuda && bytes > 0) {
      void* data = AllocatePinnedFor(device, bytes);
      if (data == nullptr) return Refused("pinned memory", Device{}, bytes);
      return Buffer(Kind::kPinned, Device{}, data, bytes);
    }
  }
  return Allocate(Device{}, bytes);
}

Buffer::Buffer(Kind kind, Device device, void* data, int64_t bytes)
    : kind_(kind), device_(device), data_(data), bytes_(bytes) {}

Buffer::Buffer(Buffer&& other) noexcept
    : kind_(other.kind_),
      device_(other.device_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  Release();
  kind_ = other.kind_;
  device_ = other.device_;
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

Buffer::~Buffer() { Release(); }

void Buffer::Release() {
  if (data_ == nullptr) return;
  if (kind_ == Kind::kPages) munmap(data_, static_cast<size_t>(bytes_));
  if constexpr (kWithCuda) {
    if (kind_ == Kind::kCuda) FreeOnGpu(device_, data_);
    if (kind_ == Kind::kPinned) FreePinned(data_);
  }
  data_ = nullptr;
  bytes_ = 0;
}

}  // namespace unipool
