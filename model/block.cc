#include "model/block.h"

#include <utility>

namespace unipool {

Block::Block(Norm attention_norm, Attention attention, Norm ffn_norm,
             std::unique_ptr<FeedForward> ffn)
    : attention_norm_(std::move(attention_norm)),
      attention_(std::move(attention)),
      ffn_norm_(std::move(ffn_norm)),
      ffn_(std::move(ffn)) {}

void Block::Allocate(Context& ctx, int64_t tokens, int64_t sequence, Saved* saved) const {
  const int64_t hidden = attention_norm_.hidden();
  saved->attention_in = Activations(ctx, {tokens, hidden});
  saved->attention_rstd = ctx.arena->New({tokens});
  saved->middle = Activations(ctx, {tokens, hidden});
  saved->ffn_in = Activations(ctx, {tokens, hidden});
  saved->ffn_rstd = ctx.arena->New({tokens});
  attention_.Allocate(ctx, tokens, sequence, &saved->attention);
  ffn_->Allocate(ctx, tokens, &saved->ffn);
}

// All that comes before the feed-forward half.
void Block::Attend(Context& ctx, Tensor rope_table, const Saved& saved) const {
  attention_norm_.Forward(ctx, saved.x, saved.attention_in, saved.attention_rstd);
  attention_.Forward(ctx, saved.attention_in, rope_table, saved.x, saved.middle, saved.attention);
  ffn_norm_.Forward(ctx, saved.middle, saved.ffn_in, saved.ffn_rstd);
}

Tensor Block::Forward(Context& ctx, Tensor x, Tensor rope_table, const Pass& pass,
                      Saved* saved) const {
  const Tensor y = Activations(ctx, {x.dim(0), x.dim(1)});
  saved->x = x;
  Attend(ctx, rope_table, *saved);
  ffn_->Forward(ctx, saved->ffn_in, saved->middle, y, pass, &saved->ffn);
  return y;
}

void Block::Recompute(Context& ctx, Tensor rope_table, const Saved& saved) const {
  Attend(ctx, rope_table, saved);
  ffn_->Recompute(ctx, saved.ffn_in, saved.ffn);
}

void Block::Backward(Context& ctx, Tensor rope_table, Saved& saved, Tensor dx, Tensor dbranch,
                     bool flush) {
  ffn_->Backward(ctx, dx, saved.ffn_in, saved.ffn, dbranch, flush);
  ffn_norm_.Backward(ctx, dbranch, saved.middle, saved.ffn_rstd, dx, true);
  attention_.Backward(ctx, dx, saved.attention_in, rope_table, saved.attention, dbranch);
  attention_norm_.Backward(ctx, dbranch, saved.x, saved.attention_rstd, dx, true);
}

}  // namespace unipool
