// Replaces cuBLASLt in emulated builds: computes products with the CPU's BLAS.
#include <glog/logging.h>

#include <vector>

#include "runtime/blas.h"
#include "runtime/cublas_cuda.h"
#include "tests/support/cuda_emulator/memory.h"

namespace unipool {
namespace {

std::vector<float> Floats(const void* data, DType dtype, int64_t rows, int64_t columns,
                          int64_t stride) {
  std::vector<float> values;
  values.reserve(static_cast<size_t>(rows * columns));
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t at = row * stride; at < row * stride + columns; ++at) {
      values.push_back(dtype == DType::kFloat32 ? static_cast<const float*>(data)[at]
                                                : static_cast<const BFloat16*>(data)[at].ToFloat());
    }
  }
  return values;
}

std::vector<float> Stored(const DenseGemm::Operand& operand, DType dtype, int64_t rows,
                          int64_t columns) {
  if (operand.transposed) std::swap(rows, columns);
  CHECK_GE(operand.stride, columns);
  return Floats(operand.data, dtype, rows, columns, operand.stride);
}

void Store(const std::vector<float>& values, const DenseGemm& product) {
  for (int64_t row = 0; row < product.m; ++row) {
    for (int64_t column = 0; column < product.n; ++column) {
      const float value = values[static_cast<size_t>(row * product.n + column)];
      const int64_t at = row * product.c_stride + column;
      if (product.out == DType::kFloat32) {
        static_cast<float*>(product.c)[at] = value;
      } else {
        static_cast<BFloat16*>(product.c)[at] = BFloat16::From(value);
      }
    }
  }
}

}  // namespace

class GemmPlans {};
void DeleteGemmPlans::operator()(GemmPlans* plans) const { delete plans; }
GemmPlansPointer NewGemmPlans() { return GemmPlansPointer(new GemmPlans); }

void RunDenseGemm(const DenseGemm& product, Stream&) {
  CHECK(product.in == DType::kBFloat16 || product.out == DType::kFloat32)
      << Name(product.in) << " to " << Name(product.out);
  const cuda_emulator::DeviceAccess access;
  const std::vector<float> a = Stored(product.a, product.in, product.m, product.k);
  const std::vector<float> b = Stored(product.b, product.in, product.k, product.n);
  std::vector<float> c = Floats(product.base, product.out, product.m, product.n, product.c_stride);
  RunSgemm({.m = product.m,
            .n = product.n,
            .k = product.k,
            .a = {a.data(), product.a.transposed ? product.m : product.k, product.a.transposed},
            .b = {b.data(), product.b.transposed ? product.k : product.n, product.b.transposed},
            .c = c.data(),
            .c_stride = product.n,
            .accumulate = product.accumulate});
  Store(c, product);
}

}  // namespace unipool
