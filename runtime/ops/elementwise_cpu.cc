#include "runtime/ops/elementwise.h"

#include <glog/logging.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace unipool {
namespace {

// Below this number of elements, starting the other threads costs more than it saves.
constexpr int64_t kBlock = 16384;

}  // namespace

void Add::Check() const {
  CHECK(a.SameShape(b) && y.SameShape(a))
      << a.ShapeString() << " + " << b.ShapeString() << " to " << y.ShapeString();
}

void ComputeOnCpu(const Add& op) {
  const float *a = op.a.as<float>(), *b = op.b.as<float>();
  float* y = op.y.as<float>();
  const int64_t count = op.y.numel();
#pragma omp parallel for simd schedule(static) if (count > kBlock)
  for (int64_t i = 0; i < count; ++i) y[i] = a[i] + b[i];
}

void Fill::Check() const {}

namespace {

template <typename T>
void FillWith(const Tensor& x, T value) {
  T* data = x.as<T>();
  const int64_t count = x.numel();
#pragma omp parallel for simd schedule(static) if (count > kBlock)
  for (int64_t i = 0; i < count; ++i) data[i] = value;
}

}  // namespace

void ComputeOnCpu(const Fill& op) {
  switch (op.x.dtype) {
    case DType::kFloat32:
      return FillWith(op.x, static_cast<float>(op.value));
    case DType::kFloat64:
      return FillWith(op.x, op.value);
    case DType::kInt32:
      return FillWith(op.x, static_cast<int32_t>(op.value));
    case DType::kInt64:
      return FillWith(op.x, static_cast<int64_t>(op.value));
    case DType::kBFloat16:
      return FillWith(op.x, BFloat16::From(static_cast<float>(op.value)));
  }
}

void Cast::Check() const {
  CHECK(x.SameShape(y)) << x.ShapeString() << " to " << y.ShapeString();
  CHECK((x.dtype == DType::kFloat32 && y.dtype == DType::kBFloat16) ||
        (x.dtype == DType::kBFloat16 && y.dtype == DType::kFloat32))
      << x.ShapeString() << " to " << y.ShapeString();
}

void ComputeOnCpu(const Cast& op) {
  const int64_t count = op.x.numel();
  if (op.x.dtype == DType::kFloat32) {
    const float* x = op.x.as<float>();
    BFloat16* y = op.y.as<BFloat16>();
#pragma omp parallel for schedule(static) if (count > kBlock)
    for (int64_t i = 0; i < count; ++i) y[i] = BFloat16::From(x[i]);
    return;
  }
  const BFloat16* x = op.x.as<BFloat16>();
  float* y = op.y.as<float>();
#pragma omp parallel for simd schedule(static) if (count > kBlock)
  for (int64_t i = 0; i < count; ++i) y[i] = x[i].ToFloat();
}

void Copy::Check() const {
  CHECK(x.SameShape(y) && x.dtype == y.dtype) << x.ShapeString() << " to " << y.ShapeString();
}

void ComputeOnCpu(const Copy& op) {
  constexpr int64_t kBytes = kBlock * 4;
  const int64_t bytes = op.x.bytes();
  const char* x = static_cast<const char*>(op.x.data);
  char* y = static_cast<char*>(op.y.data);
#pragma omp parallel for schedule(static) if (bytes > kBytes)
  for (int64_t begin = 0; begin < bytes; begin += kBytes) {
    std::memcpy(y + begin, x + begin, static_cast<size_t>(std::min(kBytes, bytes - begin)));
  }
}

void SumOfSquares::Check() const { CHECK_EQ(sum.numel(), 1); }

void ComputeOnCpu(const SumOfSquares& op) {
  constexpr int64_t kBlocks = 128;
  std::array<double, kBlocks> sums = {};
  const float* x = op.x.as<float>();
  const int64_t count = op.x.numel();
#pragma omp parallel for schedule(static) if (count > kBlock)
  for (int64_t block = 0; block < kBlocks; ++block) {
    const int64_t end = count / kBlocks * (block + 1) + count % kBlocks * (block + 1) / kBlocks;
    const int64_t begin = count / kBlocks * block + count % kBlocks * block / kBlocks;
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = begin; i < end; ++i) sum += double{x[i]} * double{x[i]};
    sums[static_cast<size_t>(block)] = sum;
  }
  double total = 0;
  for (const double sum : sums) total += sum;
  op.sum.as<double>()[0] += total;
}

}  // namespace unipool
