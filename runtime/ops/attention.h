// Grouped-query causal attention within each sequence:
//   out[i] = sum_{j <= i} softmax_j(q[i] . k[j] / sqrt(head_dim)) v[j]
// for every query head; query head h reads key/value head h / (heads / kv_heads). The tokens of a
// sequence are consecutive rows. The [sequence, sequence] score matrix is never stored; only its
// log-sum-exp per query is kept for the backward.
#pragma once

#include <array>

#include "runtime/tensor.h"

namespace unipool {

class Stream;

// q, k and v are stored side by side in each row, as the fused projection writes them:
//   [heads * head_dim | kv_heads * head_dim | kv_heads * head_dim]
// On GPUs qkv, out and their gradients may be bfloat16; lse is float32.
struct AttentionForward {
  static constexpr char kName[] = "attention_forward";
  Tensor qkv;  // [tokens, (heads + 2 * kv_heads) * head_dim]
  int64_t heads;
  int64_t kv_heads;
  int64_t sequence;  // length of a sequence; tokens must be a multiple of it
  Tensor out;        // out [tokens, heads * head_dim]
  // out float32 [tokens / sequence, heads, sequence]: log sum_j exp(score), kept for the backward;
  // score = q . k / sqrt(head_dim)
  Tensor lse;
  auto Inputs() { return std::array{&qkv}; }
  auto Outputs() { return std::array{&out, &lse}; }
  void Check() const;
};
void ComputeOnCpu(const AttentionForward& op);
void ComputeOnCuda(const AttentionForward& op, Stream& stream);

struct AttentionBackward {
  static constexpr char kName[] = "attention_backward";
  // qkv, out, lse, heads, kv_heads and sequence are those of the forward.
  Tensor dout;  // [tokens, heads * head_dim]
  Tensor qkv;
  Tensor out;
  Tensor lse;
  int64_t heads;
  int64_t kv_heads;
  int64_t sequence;
  Tensor dqkv;  // out, shape and layout of qkv
  auto Inputs() { return std::array{&dout, &qkv, &out, &lse}; }
  auto Outputs() { return std::array{&dqkv}; }
  void Check() const;
};
void ComputeOnCpu(const AttentionBackward& op);
void ComputeOnCuda(const AttentionBackward& op, Stream& stream);

}  // namespace unipool
