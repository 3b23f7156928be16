// The one door to cuDNN, which is loaded at the first attention and needed by nobody: what it does
// not compute, or where it is not, the kernels of runtime/ops/attention_*_cuda.cu do.
#pragma once

#include <compare>
#include <cstdint>
#include <memory>

#include "runtime/stream.h"

namespace unipool {

// Causal attention inside each sequence, as runtime/ops/attention.h has it.
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

// bfloat16 but for lse. A forward writes out and lse; a backward reads them, and has dout and dqkv.
struct CudnnAttention {
  CudnnAttentionShape shape;
  void* qkv;
  void* out;
  float* lse;
  void* dout = nullptr;
  void* dqkv = nullptr;
};

// The library's handle, and a plan for each shape met. Belongs to one stream.
class CudnnPlans;
struct DeleteCudnnPlans {
  void operator()(CudnnPlans* plans) const;
};
using CudnnPlansPointer = std::unique_ptr<CudnnPlans, DeleteCudnnPlans>;
// `stream` is that of a GPU and owns them.
CudnnPlansPointer NewCudnnPlans(Stream& stream);

// Enqueues the attention; false, with nothing done, where cuDNN is not there, does not compute the
// shape, or is not wanted (the environment has UNIPOOL_CUDNN=0). The first of a shape may allocate.
// The same attention twice gives the same bits.
bool RunCudnnAttention(const CudnnAttention& attention, Stream& stream);

}  // namespace unipool
