#include "runtime/ops/bf16_terms.h"

#include <glog/logging.h>

namespace unipool {

void SplitTerms::Check() const {
  CHECK(x.dtype == DType::kFloat32 && y.dtype == DType::kBFloat16);
  CHECK(x.dim(0) == y.dim(0) && y.dim(1) % x.dim(1) == 0 && y.dim(1) <= kMaxBlocks * x.dim(1))
      << x.ShapeString() << " to " << y.ShapeString();
}

void ComputeOnCpu(const SplitTerms& op) {
  const int64_t columns = op.x.dim(1), blocks = op.y.dim(1) / columns;
  for (int64_t i = 0; i < op.x.numel(); ++i) {
    std::array<BFloat16, 3> parts;
    float left = op.x.as<float>()[i];
    for (BFloat16& part : parts) {
      part = BFloat16::From(left);
      left -= part.ToFloat();
    }
    BFloat16* y = op.y.as<BFloat16>() + i / columns * op.y.dim(1) + i % columns;
    for (int64_t b = 0; b < blocks; ++b) y[b * columns] = parts[static_cast<size_t>(op.terms[b])];
  }
}

void SumTerms::Check() const {
  CHECK(x.dtype == DType::kFloat32 && y.dtype == DType::kFloat32);
  CHECK(x.dim(0) == y.dim(0) && x.dim(1) >= 3 * y.dim(1))
      << x.ShapeString() << " to " << y.ShapeString();
}

void ComputeOnCpu(const SumTerms& op) {
  const int64_t columns = op.y.dim(1);
  for (int64_t r = 0; r < op.y.dim(0); ++r) {
    const float* x = op.x.as<float>() + r * op.x.dim(1);
    float* y = op.y.as<float>() + r * columns;
    for (int64_t c = 0; c < columns; ++c) {
      const float sum = (x[2 * columns + c] + x[columns + c]) + x[c];
      y[c] = op.accumulate ? y[c] + sum : sum;
    }
  }
}

}  // namespace unipool
