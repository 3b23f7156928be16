#include "runtime/finite_check.h"

#include <cmath>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/copy.h"

namespace unipool {

namespace {

template <typename T>
int64_t FirstNonFiniteOf(const Tensor& tensor) {
  const T* data = tensor.as<T>();
  const int64_t count = tensor.numel();
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(data[i])) return i;
  }
  return -1;
}

template <>
int64_t FirstNonFiniteOf<BFloat16>(const Tensor& tensor) {
  const BFloat16* data = tensor.as<BFloat16>();
  const int64_t count = tensor.numel();
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(data[i].ToFloat())) return i;
  }
  return -1;
}

double ValueAt(const Tensor& tensor, int64_t i) {
  if (tensor.dtype == DType::kFloat64) return tensor.as<double>()[i];
  if (tensor.dtype == DType::kBFloat16) return tensor.as<BFloat16>()[i].ToFloat();
  return tensor.as<float>()[i];
}

// Returns the tensor in host memory: itself if it is there, else a copy in `storage`.
Tensor OnHost(const Tensor& tensor, std::vector<char>& storage) {
  if (tensor.device.type == DeviceType::kCpu) return tensor;
  storage.resize(static_cast<size_t>(tensor.bytes()));
  ReadTensor(tensor, storage.data());
  Tensor copy = tensor;
  copy.data = storage.data();
  copy.device = Device{};
  return copy;
}

int64_t FirstNonFiniteOnHost(const Tensor& tensor) {
  switch (tensor.dtype) {
    case DType::kFloat32:
      return FirstNonFiniteOf<float>(tensor);
    case DType::kFloat64:
      return FirstNonFiniteOf<double>(tensor);
    case DType::kBFloat16:
      return FirstNonFiniteOf<BFloat16>(tensor);
    case DType::kInt32:
    case DType::kInt64:
      return -1;
  }
  return -1;
}

}  // namespace

int64_t FirstNonFinite(const Tensor& tensor) {
  if (tensor.absent()) return -1;
  std::vector<char> storage;
  return FirstNonFiniteOnHost(OnHost(tensor, storage));
}

void FiniteCheck::Look(const char* op, const Tensor& tensor) {
  ++looks;
  if (!first.empty()) return;
  if (tensor.absent()) return;
  std::vector<char> storage;
  const Tensor values = OnHost(tensor, storage);
  const int64_t at = FirstNonFiniteOnHost(values);
  if (at < 0) return;
  first_look = looks;
  first = absl::StrCat("output ", tensor.ShapeString(), " of ", op, " in ", where, ", element ", at,
                       " = ", ValueAt(values, at));
}

}  // namespace unipool
