#include "runtime/arena.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace unipool {
namespace {

constexpr int64_t kAlignment = 64;

int64_t RoundUp(int64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

absl::StatusOr<Arena> Arena::Create(Device device, int64_t reserve_bytes) {
  auto buffer = Buffer::Allocate(device, reserve_bytes);
  if (!buffer.ok()) return buffer.status();
  return Arena(std::move(buffer).value());
}

Arena::Arena(Buffer buffer) : buffer_(std::move(buffer)) {}

Tensor Arena::Allocate(DType dtype, std::initializer_list<int64_t> dims) {
  Tensor tensor =
      Tensor::View(static_cast<char*>(buffer_.data()) + used_, dtype, dims, buffer_.device());
  const int64_t left = buffer_.bytes() - used_;
  CHECK(tensor.bytes() <= left && RoundUp(tensor.bytes()) <= left)
      << "the arena is full: " << tensor.ShapeString() << " does not fit beside " << used_
      << " bytes in use of " << buffer_.bytes() << " reserved on " << ToString(buffer_.device());
  used_ += RoundUp(tensor.bytes());
  peak_ = std::max(peak_, used_);
  return tensor;
}

void Arena::Release(int64_t mark) {
  CHECK(0 <= mark && mark <= used_) << mark << " of " << used_;
  used_ = mark;
}

}  // namespace unipool
