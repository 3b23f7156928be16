#include "runtime/finite_check.h"

#include <cmath>

#include "absl/strings/str_cat.h"

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

double ValueAt(const Tensor& tensor, int64_t i) {
  return tensor.dtype == DType::kFloat64 ? tensor.as<double>()[i] : double{tensor.as<float>()[i]};
}

}  // namespace

int64_t FirstNonFinite(const Tensor& tensor) {
  if (tensor.absent()) return -1;
  if (tensor.dtype == DType::kFloat32) return FirstNonFiniteOf<float>(tensor);
  if (tensor.dtype == DType::kFloat64) return FirstNonFiniteOf<double>(tensor);
  return -1;
}

void FiniteCheck::Look(const char* op, const Tensor& tensor) {
  ++looks;
  if (!first.empty()) return;
  const int64_t at = FirstNonFinite(tensor);
  if (at < 0) return;
  first_look = looks;
  first = absl::StrCat("output ", tensor.ShapeString(), " of ", op, " in ", where, ", element ", at,
                       " = ", ValueAt(tensor, at));
}

}  // namespace unipool
