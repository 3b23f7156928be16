#include "runtime/tensor.h"

#include <glog/logging.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"

namespace unipool {

Tensor Tensor::View(void* data, DType dtype, std::initializer_list<int64_t> dims, Device device) {
  CHECK_LE(dims.size(), static_cast<size_t>(kMaxRank));
  Tensor tensor;
  tensor.data = data;
  tensor.rank = static_cast<int>(dims.size());
  std::copy(dims.begin(), dims.end(), tensor.dims);
  tensor.dtype = dtype;
  tensor.device = device;
  int64_t bytes = static_cast<int64_t>(SizeOf(dtype));
  for (int i = 0; i < tensor.rank; ++i) {
    CHECK_GE(tensor.dims[i], 0) << tensor.ShapeString();
    CHECK(!__builtin_mul_overflow(bytes, tensor.dims[i], &bytes))
        << "the size of " << tensor.ShapeString() << " overflows";
  }
  return tensor;
}

int64_t Tensor::numel() const {
  if (absent()) return 0;
  int64_t product = 1;
  for (int i = 0; i < rank; ++i) product *= dims[i];
  return product;
}

int64_t Tensor::bytes() const { return numel() * static_cast<int64_t>(SizeOf(dtype)); }

bool Tensor::SameShape(const Tensor& other) const {
  return rank == other.rank && std::equal(dims, dims + rank, other.dims);
}

Tensor Tensor::Rows(int64_t begin, int64_t end) const {
  CHECK_GE(rank, 1);
  CHECK(0 <= begin && begin <= end && end <= dims[0])
      << "rows [" << begin << ", " << end << ") of " << ShapeString();
  Tensor rows = *this;
  const int64_t row_elements = dims[0] == 0 ? 0 : numel() / dims[0];
  rows.dims[0] = end - begin;
  rows.data = static_cast<char*>(data) + begin * row_elements * static_cast<int64_t>(SizeOf(dtype));
  return rows;
}

Tensor Tensor::Reshape(std::initializer_list<int64_t> new_dims) const {
  Tensor reshaped = View(data, dtype, new_dims, device);
  CHECK_EQ(reshaped.numel(), numel()) << ShapeString() << " as " << reshaped.ShapeString();
  return reshaped;
}

std::string Tensor::ShapeString() const {
  return absl::StrCat(Name(dtype), "[", absl::StrJoin(absl::MakeSpan(dims, rank), ", "), "]");
}

void Tensor::CheckType(DType expected) const {
  CHECK(dtype == expected) << "expected " << Name(expected) << ", got " << ShapeString();
}

}  // namespace unipool
