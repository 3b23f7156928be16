#include "tests/support/workbench.h"

#include <glog/logging.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "runtime/rng.h"

namespace unipool::testing {
namespace {

constexpr int64_t kReserveBytes = int64_t{8} << 30;

template <typename T>
Tensor Filled(Arena& arena, std::initializer_list<int64_t> dims, const std::vector<T>& values) {
  Tensor tensor = arena.New<T>(dims);
  CHECK_EQ(tensor.numel(), static_cast<int64_t>(values.size()));
  std::copy(values.begin(), values.end(), tensor.as<T>());
  return tensor;
}

}  // namespace

Workbench::Workbench()
    : arena_(std::make_unique<Arena>(Arena::Create(Device{}, kReserveBytes).value())),
      stream_(Stream::Create(Device{})) {
  ctx_.arena = arena_.get();
  ctx_.stream = stream_.get();
  ctx_.profiler = &profiler_;
}

Tensor Workbench::Zeros(std::initializer_list<int64_t> dims) {
  Tensor tensor = arena_->New(dims);
  std::fill_n(tensor.as<float>(), tensor.numel(), 0.0f);
  return tensor;
}

Tensor Workbench::Poisoned(std::initializer_list<int64_t> dims) {
  Tensor tensor = arena_->New(dims);
  std::fill_n(tensor.as<float>(), tensor.numel(), std::numeric_limits<float>::quiet_NaN());
  return tensor;
}

Tensor Workbench::Random(absl::string_view name, std::initializer_list<int64_t> dims,
                         float stddev) {
  Tensor tensor = arena_->New(dims);
  Rng(1234, StreamId(name)).FillNormal(stddev, tensor);
  return tensor;
}

Tensor Workbench::Floats(std::initializer_list<int64_t> dims, const std::vector<float>& values) {
  return Filled(*arena_, dims, values);
}

Tensor Workbench::Ints(std::initializer_list<int64_t> dims, const std::vector<int32_t>& values) {
  return Filled(*arena_, dims, values);
}

Tensor Workbench::Longs(std::initializer_list<int64_t> dims, const std::vector<int64_t>& values) {
  return Filled(*arena_, dims, values);
}

Tensor Workbench::Copy(const Tensor& tensor) {
  Tensor copy = tensor;
  copy.data = arena_->Allocate(tensor.dtype, {tensor.numel()}).data;
  std::memcpy(copy.data, tensor.data, static_cast<size_t>(tensor.bytes()));
  return copy;
}

std::vector<float> ToVector(const Tensor& tensor) {
  return {tensor.as<float>(), tensor.as<float>() + tensor.numel()};
}

double Dot(const Tensor& a, const Tensor& b) {
  CHECK_EQ(a.numel(), b.numel());
  double sum = 0;
  for (int64_t i = 0; i < a.numel(); ++i) sum += double{a.as<float>()[i]} * b.as<float>()[i];
  return sum;
}

void ExpectNear(const Tensor& a, const Tensor& b, double absolute, double relative) {
  ASSERT_TRUE(a.SameShape(b)) << a.ShapeString() << " against " << b.ShapeString();
  int64_t bad = 0, first = -1;
  double worst = 0;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const double x = a.as<float>()[i], y = b.as<float>()[i];
    if (std::abs(x - y) <= absolute + relative * std::abs(y)) continue;
    if (first < 0) first = i;
    ++bad;
    worst = std::max(worst, std::abs(x - y));
  }
  EXPECT_EQ(bad, 0) << "of " << a.ShapeString() << "; the first at " << first << ": "
                    << a.as<float>()[std::max<int64_t>(first, 0)] << " against "
                    << b.as<float>()[std::max<int64_t>(first, 0)] << "; worst difference " << worst;
}

}  // namespace unipool::testing
