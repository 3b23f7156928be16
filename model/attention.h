// Self-attention of a LLaMA block: rotary positions, grouped queries, causal inside each sequence.
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
    Tensor qkv;  // after the rotation
    Tensor out;  // before the output projection
    Tensor lse;
  };

  // `prefix` as in "model.layers.3.self_attn"; projections start at init_std, the output's at
  // output_init_std.
  Attention(ParameterList& parameters, const std::string& prefix, const AttentionShape& shape,
            float init_std, float output_init_std);

  // Takes the memory of `saved` from the arena.
  void Allocate(Context& ctx, int64_t tokens, int64_t sequence, Saved* saved) const;
  // y += attention(x); x, y [tokens, hidden]: sequences as long as rope_table [sequence, head_dim].
  // Fills `saved`.
  void Forward(Context& ctx, Tensor x, Tensor rope_table, Tensor base, Tensor y,
               const Saved& saved) const;
  // dx = gradient of x, given dy of y.
  void Backward(Context& ctx, Tensor dy, Tensor x, Tensor rope_table, const Saved& saved,
                Tensor dx) const;

 private:
  AttentionShape shape_;
  Linear qkv_;
  Linear output_;
};

}  // namespace unipool
