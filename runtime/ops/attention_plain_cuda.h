// Arguments of the attention kernels, and kernels for any type, alignment and head_dim, which do
// not use tensor cores. Included only by *_cuda.cu.
#pragma once

#include "runtime/ops/attention_tile_cuda.h"

namespace unipool {

template <typename T>
struct AttentionForwardArguments {
  HeadLayout layout;
  const T* qkv;
  T* out;
  float* lse;
};

template <typename T>
struct AttentionBackwardArguments {
  HeadLayout layout;
  const T* dout;
  const T* qkv;
  const T* out;
  const float* lse;
  float* dot;  // scratch, indexed like lse: sum_d dout * out of each query
  T* dqkv;
};

// Instantiated for float and __nv_bfloat16.
template <typename T>
void RunPlainAttention(const AttentionForwardArguments<T>& arguments, Stream& stream);
template <typename T>
void RunPlainAttention(const AttentionBackwardArguments<T>& arguments, Stream& stream);

}  // namespace unipool
