#include "tests/support/both_devices.h"

#include <glog/logging.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "runtime/copy.h"

namespace unipool::testing {
namespace {

constexpr Device kGpu{DeviceType::kCuda, 0};

Tensor NewLike(const Tensor& tensor, DType dtype, Device device, std::vector<Buffer>& storage) {
  Tensor fresh = tensor;
  fresh.dtype = dtype;
  fresh.device = device;
  storage.push_back(Buffer::Allocate(device, fresh.bytes()).value());
  fresh.data = storage.back().data();
  return fresh;
}

Tensor Rounded(const Tensor& tensor, std::vector<Buffer>& storage) {
  const Tensor rounded = NewLike(tensor, DType::kBFloat16, Device{}, storage);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    rounded.as<BFloat16>()[i] = BFloat16::From(tensor.as<float>()[i]);
  }
  return rounded;
}

template <typename T>
std::vector<double> DoublesOf(const Tensor& tensor) {
  std::vector<double> values(static_cast<size_t>(tensor.numel()));
  for (size_t i = 0; i < values.size(); ++i) {
    if constexpr (std::is_same_v<T, BFloat16>) {
      values[i] = tensor.as<T>()[i].ToFloat();
    } else {
      values[i] = static_cast<double>(tensor.as<T>()[i]);
    }
  }
  return values;
}

}  // namespace

DeviceCopies::DeviceCopies() : stream_(Stream::Create(kGpu)) { ctx_.stream = stream_.get(); }

void DeviceCopies::Move(Tensor* tensor, bool rounded) {
  for (const Copy& copy : copies_) {
    if (copy.host != tensor->data || tensor->empty()) continue;
    Tensor same = copy.on_device;
    std::copy(tensor->dims, tensor->dims + Tensor::kMaxRank, same.dims);
    same.rank = tensor->rank;
    *tensor = same;
    return;
  }
  const void* host = tensor->data;
  std::vector<Buffer> storage;
  const Tensor from =
      rounded && tensor->dtype == DType::kFloat32 ? Rounded(*tensor, storage) : *tensor;
  *tensor = NewLike(from, from.dtype, kGpu, buffers_);
  CopyTensor(from, *tensor, *stream_);
  stream_->Synchronize();
  // An empty tensor from an arena has the same address as the next allocation, so it is not
  // remembered.
  if (!tensor->empty()) copies_.push_back({host, *tensor});
}

std::vector<double> DeviceCopies::Read(const Tensor& tensor) {
  if (tensor.absent()) return {};
  std::vector<Buffer> storage;
  const Tensor host = NewLike(tensor, tensor.dtype, Device{}, storage);
  ReadTensor(tensor, host.data);
  return ToDoubles(host);
}

Tensor CopyOnHost(const Tensor& tensor, bool rounded, std::vector<Buffer>& storage) {
  const Tensor copy = NewLike(tensor, tensor.dtype, Device{}, storage);
  if (!tensor.empty()) std::memcpy(copy.data, tensor.data, static_cast<size_t>(tensor.bytes()));
  if (!rounded || tensor.dtype != DType::kFloat32) return copy;
  for (int64_t i = 0; i < copy.numel(); ++i) {
    copy.as<float>()[i] = BFloat16::From(copy.as<float>()[i]).ToFloat();
  }
  return copy;
}

std::vector<double> ToDoubles(const Tensor& tensor) {
  if (tensor.absent()) return {};
  switch (tensor.dtype) {
    case DType::kFloat32:
      return DoublesOf<float>(tensor);
    case DType::kFloat64:
      return DoublesOf<double>(tensor);
    case DType::kInt32:
      return DoublesOf<int32_t>(tensor);
    case DType::kInt64:
      return DoublesOf<int64_t>(tensor);
    case DType::kBFloat16:
      return DoublesOf<BFloat16>(tensor);
  }
  return {};
}

void ExpectClose(const std::string& what, const std::vector<double>& actual,
                 const std::vector<double>& expected, Tolerance tolerance) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  double squares = 0;
  int64_t finite = 0;
  for (const double value : expected) {
    if (!std::isfinite(value)) continue;
    squares += value * value;
    ++finite;
  }
  const double typical = finite > 0 ? std::sqrt(squares / static_cast<double>(finite)) : 0;
  size_t bad = 0, first = 0;
  for (size_t i = 0; i < actual.size(); ++i) {
    const double x = actual[i], y = expected[i];
    const bool same = x == y || (std::isnan(x) && std::isnan(y));
    if (same || std::abs(x - y) <= tolerance.share * (std::abs(y) + typical)) continue;
    if (bad++ == 0) first = i;
  }
  if (bad == 0) return;
  ADD_FAILURE() << what << ": " << bad << " of " << actual.size() << " differ; element " << first
                << " is " << actual[first] << ", on the CPU " << expected[first];
}

void ExpectSameBits(const std::string& what, const std::vector<double>& a,
                    const std::vector<double>& b) {
  ASSERT_EQ(a.size(), b.size()) << what;
  if (a.empty()) return;
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(double)), 0)
      << what << " differs from one run to the next";
}

}  // namespace unipool::testing
