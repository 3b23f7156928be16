// The only interface to cuDNN. The library is loaded at the first attention and is optional: if it
// is missing or does not support a shape, the kernels of runtime/ops/attention_*_cuda.cu compute
// the attention.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>

#include "runtime/stream.h"

namespace unipool {

// Shape of a causal attention within each sequence, as defined in runtime/ops/attention.h.
struct CudnnAttentionShape {
  bool backward;
  int64_t sequences;
  int64_t sequence;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;

  int64_t qkv_stride() const { return (heads + 2 * kv_heads) * head_dim; }
  int64_t out_stride() const { return heads * head_dim; }
  auto operator<=>(const CudnnAttentionShape&) const = default;
};

// Pointers to device memory with the layouts of runtime/ops/attention.h; bfloat16 except lse. The
// forward writes out and lse; the backward reads them and dout, and writes dqkv.
struct CudnnAttention {
  CudnnAttentionShape shape;
  void* qkv;
  void* out;
  float* lse;
  void* dout = nullptr;
  void* dqkv = nullptr;
};

// The library's handle, and a compiled plan for each shape used so far. Belongs to one stream.
class CudnnPlans;
struct DeleteCudnnPlans {
  void operator()(CudnnPlans* plans) const;
};
using CudnnPlansPointer = std::unique_ptr<CudnnPlans, DeleteCudnnPlans>;
// `stream` is a GPU stream, which owns the plans.
CudnnPlansPointer NewCudnnPlans(Stream& stream);

// Enqueues the attention. Returns false and does nothing if cuDNN is missing, does not support the
// shape, or is disabled by UNIPOOL_CUDNN=0 in the environment. The first call for a shape may
// allocate memory. Repeating the same attention gives the same bits.
bool RunCudnnAttention(const CudnnAttention& attention, Stream& stream);

}  // namespace unipool
