// AdamW update on a GPU; one thread updates packs of four elements.
#include "runtime/ops/adamw.h"

#include "runtime/kernel_cuda.h"

namespace unipool {
namespace {

struct Update {
  float* value;
  float* grad;
  float* m;
  float* v;
  __nv_bfloat16* rounded;  // or null
  int64_t count;
  float grad_scale;
  float beta1;
  float beta2;
  float step;     // lr / bias1
  float unbias2;  // 1 / bias2
  float eps;
  float decay;  // lr * weight_decay
};

template <int kSize>
__device__ __forceinline__ void UpdatePack(const Update& op, int64_t at) {
  auto value = LoadPack<float, kSize>(op.value + at), m = LoadPack<float, kSize>(op.m + at);
  auto v = LoadPack<float, kSize>(op.v + at), grad = LoadPack<float, kSize>(op.grad + at);
  Pack<__nv_bfloat16, kSize> rounded;
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    const float g = grad.values[i] * op.grad_scale;
    m.values[i] = op.beta1 * m.values[i] + (1.0f - op.beta1) * g;
    v.values[i] = op.beta2 * v.values[i] + (1.0f - op.beta2) * g * g;
    value.values[i] -= op.step * m.values[i] / (sqrtf(v.values[i] * op.unbias2) + op.eps) +
                       op.decay * value.values[i];
    grad.values[i] = 0;
    rounded.values[i] = FromFloat<__nv_bfloat16>(value.values[i]);
  }
  StorePack(op.value + at, value);
  StorePack(op.m + at, m);
  StorePack(op.v + at, v);
  StorePack(op.grad + at, grad);
  if (op.rounded != nullptr) StorePack(op.rounded + at, rounded);
}

// Grid-stride loop over packs of kSize elements; the elements after the last whole pack are updated
// one per thread.
template <int kSize>
__global__ void UpdateKernel(Update op) {
  const int64_t packs = op.count / kSize;
  for (int64_t i = GlobalThread(); i < packs; i += GridThreads()) UpdatePack<kSize>(op, i * kSize);
  const int64_t last = packs * kSize + GlobalThread();
  if (last < op.count) UpdatePack<1>(op, last);
}

}  // namespace

void ComputeOnCuda(const AdamW& op, Stream& stream) {
  constexpr int kSize = kPack<float>;
  const Update update{
      .value = op.value.as<float>(),
      .grad = op.grad.as<float>(),
      .m = op.m.as<float>(),
      .v = op.v.as<float>(),
      .rounded = op.rounded.absent() ? nullptr : op.rounded.as<__nv_bfloat16>(),
      .count = op.value.numel(),
      .grad_scale = op.grad_scale,
      .beta1 = op.beta1,
      .beta2 = op.beta2,
      .step = op.lr / op.bias1,
      .unbias2 = 1.0f / op.bias2,
      .eps = op.eps,
      .decay = op.lr * op.weight_decay,
  };
  if (Aligned(update.value, update.grad, update.m, update.v, update.rounded)) {
    return LaunchKernel(CudaStream(stream), GridStride(CeilDivide<int64_t>(update.count, kSize)),
                        UpdateKernel<kSize>, update);
  }
  LaunchKernel(CudaStream(stream), GridStride(update.count), UpdateKernel<1>, update);
}

}  // namespace unipool
