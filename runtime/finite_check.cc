#include "runtime/finite_check.h"

#include <cmath>

#include "absl/strings/str_cat.h"

namespace unipool {

int64_t FirstNonFinite(const Tensor& tensor) {
  if (tensor.absent() || tensor.dtype != DType::kFloat32) return -1;
  const float* data = tensor.as<float>();
  const int64_t count = tensor.numel();
  for (int64_t i = 0; i < count; ++i) {
    if (!std::isfinite(data[i])) return i;
  }
  return -1;
}

void FiniteCheck::Look(const char* op, const Tensor& tensor) {
  if (!first.empty()) return;
  const int64_t at = FirstNonFinite(tensor);
  if (at < 0) return;
  first = absl::StrCat("output ", tensor.ShapeString(), " of ", op, " in ", where, ", element ", at,
                       " = ", tensor.as<float>()[at]);
}

}  // namespace unipool
