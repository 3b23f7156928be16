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
    Tensor x;  // the input; borrowed from the layer below
    Tensor attention_in;
    Tensor attention_rstd;
    Attention::Saved attention;
    Tensor middle;  // x + attention
    Tensor ffn_in;
    Tensor ffn_rstd;
    FeedForward::Saved ffn;
  };

  Block(Norm attention_norm, Attention attention, Norm ffn_norm, std::unique_ptr<FeedForward> ffn);

  // Takes the memory of what Recompute gives from the arena.
  void Allocate(Context& ctx, int64_t tokens, int64_t sequence, Saved* saved) const;
  // Returns the block's output [tokens, hidden], from the arena. `saved` is Allocated.
  // `rope_table` [sequence, head_dim] says how long the sequences are.
  Tensor Forward(Context& ctx, Tensor x, Tensor rope_table, const Pass& pass, Saved* saved) const;
  // Before a Backward whose `saved` was Allocated together with other blocks': computes again what
  // follows from the input alone, up to the router's scores.
  void Recompute(Context& ctx, Tensor rope_table, const Saved& saved) const;
  // dx holds the output's gradient and is turned into the input's. `dbranch`, of the same shape, is
  // working memory. `flush` is that of FeedForward::Backward.
  void Backward(Context& ctx, Tensor rope_table, Saved& saved, Tensor dx, Tensor dbranch,
                bool flush);

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
