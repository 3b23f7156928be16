#include "runtime/ops/adamw.h"

#include <glog/logging.h>

#include <algorithm>
#include <cmath>

namespace unipool {

void AdamW::Check() const {
  CHECK(grad.SameShape(value) && m.SameShape(value) && v.SameShape(value))
      << value.ShapeString() << ", " << grad.ShapeString() << ", " << m.ShapeString() << ", "
      << v.ShapeString();
  CHECK(rounded.absent() || (rounded.SameShape(value) && rounded.dtype == DType::kBFloat16))
      << rounded.ShapeString() << " for " << value.ShapeString();
  CHECK(bias1 > 0 && bias2 > 0) << "steps are counted from 1: " << bias1 << ", " << bias2;
}

namespace {

// __restrict: the four arrays do not overlap, which the compiler cannot prove.
void Step(const AdamW& op, int64_t begin, int64_t end) {
  float* __restrict value = op.value.as<float>();
  float* __restrict grad = op.grad.as<float>();
  float* __restrict m = op.m.as<float>();
  float* __restrict v = op.v.as<float>();
  const float grad_scale = op.grad_scale, eps = op.eps;
  const float beta1 = op.beta1, rest1 = 1.0f - op.beta1;
  const float beta2 = op.beta2, rest2 = 1.0f - op.beta2;
  const float step = op.lr / op.bias1, unbias2 = 1.0f / op.bias2;
  const float decay = op.lr * op.weight_decay;
#pragma omp simd
  for (int64_t i = begin; i < end; ++i) {
    const float g = grad[i] * grad_scale;
    m[i] = beta1 * m[i] + rest1 * g;
    v[i] = beta2 * v[i] + rest2 * g * g;
    value[i] -= step * m[i] / (std::sqrt(v[i] * unbias2) + eps) + decay * value[i];
    grad[i] = 0;
  }
  if (op.rounded.absent()) return;
  BFloat16* rounded = op.rounded.as<BFloat16>();
  for (int64_t i = begin; i < end; ++i) rounded[i] = BFloat16::From(value[i]);
}

}  // namespace

void ComputeOnCpu(const AdamW& op) {
  constexpr int64_t kBlock = 4096;
  const int64_t count = op.value.numel();
#pragma omp parallel for schedule(static) if (count > kBlock)
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    Step(op, begin, std::min(begin + kBlock, count));
  }
}

}  // namespace unipool
