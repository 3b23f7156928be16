// A pre-norm LLaMA block: x + attention(norm(x)), then x + ffn(norm(x)).
#pragma once

#include <memory>
#include <string>

#include "model/attention.h"
#include "model/moe_layer.h"
#include "model/norm.h"
#include "runtime/context.h"

namespace unipool {

class Block {
 public:
  struct Saved {
    Tensor x;  // [tokens, hidden]: the input; borrowed from the layer below
    Tensor attention_in;
    Tensor attention_rstd;
    Attention::Saved attention;
    Tensor middle;  // [tokens, hidden]: x + attention(norm(x))
    Tensor ffn_in;
    Tensor ffn_rstd;
    FeedForward::Saved ffn;
  };

  Block(Norm attention_norm, Attention attention, Norm ffn_norm, std::unique_ptr<FeedForward> ffn);

  // Allocates the tensors that Recompute fills from the arena. `sequence` is the length of every
  // sequence.
  void Allocate(Context& ctx, int64_t tokens, int64_t sequence, Saved* saved) const;

  struct ForwardArgs {
    Tensor x;           // [tokens, hidden]
    Tensor rope_table;  // float32 [sequence, head_dim]; defines the length of every sequence
    Pass pass = {};
  };
  // Returns the block's output [tokens, hidden], allocated from the arena. `saved` is Allocated.
  Tensor Forward(Context& ctx, const ForwardArgs& args, Saved* saved) const;
  // Computes everything up to the router's scores again from saved.x. Call it before a Backward if
  // other blocks have used the tensors of `saved` since the Forward.
  void Recompute(Context& ctx, Tensor rope_table, const Saved& saved) const;

  struct BackwardArgs {
    Tensor rope_table;  // as in Forward
    Tensor dx;          // in: gradient of the output; out: gradient of the input [tokens, hidden]
    Tensor dbranch;     // scratch [tokens, hidden]
    WeightGradients weight_gradients;
  };
  void Backward(Context& ctx, const BackwardArgs& args, Saved& saved);

  void FinishStep(Context& ctx) { ffn_->FinishStep(ctx); }

  ExpertPool& pool() { return ffn_->pool(); }

 private:
  void Attend(Context& ctx, Tensor rope_table, const Saved& saved) const;

  Norm attention_norm_;
  Attention attention_;
  Norm ffn_norm_;
  std::unique_ptr<FeedForward> ffn_;
};

}  // namespace unipool
