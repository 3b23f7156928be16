// Self-attention of a LLaMA block: rotary positions, grouped queries, causal within each sequence.
#pragma once

#include <cstdint>
#include <string>

#include "model/linear.h"
#include "runtime/context.h"

namespace unipool {

struct AttentionShape {
  int64_t hidden;
  int64_t heads;
  int64_t kv_heads;
  int64_t head_dim;
};

class Attention {
 public:
  struct Saved {
    Tensor qkv;  // [tokens, (heads + 2 * kv_heads) * head_dim], after the rotation
    Tensor out;  // [tokens, heads * head_dim], before the output projection
    Tensor
        lse;  // float32 [sequences, heads, sequence]: log of the sum of exponentials of the scores
  };

  // `prefix` is a name such as "model.layers.3.self_attn". The query, key and value projections
  // start at init_std, the output projection at output_init_std.
  Attention(ParameterList& parameters, const std::string& prefix, const AttentionShape& shape,
            float init_std, float output_init_std);

  // Allocates `saved` from the arena. `sequence` is the length of every sequence.
  void Allocate(Context& ctx, int64_t tokens, int64_t sequence, Saved* saved) const;

  struct ForwardArgs {
    Tensor x;           // [tokens, hidden]
    Tensor rope_table;  // float32 [sequence, head_dim]; defines the length of every sequence
    Tensor base;        // [tokens, hidden]
    Tensor y;           // out [tokens, hidden]
  };
  // y = base + attention(x). Fills `saved`, which is Allocated.
  void Forward(Context& ctx, const ForwardArgs& args, const Saved& saved) const;

  struct BackwardArgs {
    Tensor dy;          // [tokens, hidden]: gradient of y
    Tensor x;           // [tokens, hidden]
    Tensor rope_table;  // as in Forward
    Tensor dx;          // out [tokens, hidden]
  };
  // dx = gradient of attention(x) with respect to x; the gradient of base is dy itself.
  void Backward(Context& ctx, const BackwardArgs& args, const Saved& saved) const;

 private:
  AttentionShape shape_;
  Linear qkv_;
  Linear output_;
};

}  // namespace unipool
