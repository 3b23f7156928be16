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

// Everything before the feed-forward half.
void Block::Attend(Context& ctx, Tensor rope_table, const Saved& saved) const {
  attention_norm_.Forward(ctx,
                          {.x = saved.x, .y = saved.attention_in, .rstd = saved.attention_rstd});
  attention_.Forward(
      ctx, {.x = saved.attention_in, .rope_table = rope_table, .base = saved.x, .y = saved.middle},
      saved.attention);
  ffn_norm_.Forward(ctx, {.x = saved.middle, .y = saved.ffn_in, .rstd = saved.ffn_rstd});
}

Tensor Block::Forward(Context& ctx, const ForwardArgs& args, Saved* saved) const {
  const Tensor y = Activations(ctx, {args.x.dim(0), args.x.dim(1)});
  saved->x = args.x;
  Attend(ctx, args.rope_table, *saved);
  ffn_->Forward(ctx, {.x = saved->ffn_in, .base = saved->middle, .y = y, .pass = args.pass},
                &saved->ffn);
  return y;
}

void Block::Recompute(Context& ctx, Tensor rope_table, const Saved& saved) const {
  Attend(ctx, rope_table, saved);
  ffn_->Recompute(ctx, saved.ffn_in, saved.ffn);
}

void Block::Backward(Context& ctx, const BackwardArgs& args, Saved& saved) {
  const Tensor &dx = args.dx, &dbranch = args.dbranch;
  ffn_->Backward(
      ctx, {.dy = dx, .x = saved.ffn_in, .dx = dbranch, .weight_gradients = args.weight_gradients},
      saved.ffn);
  ffn_norm_.Backward(
      ctx, {.dy = dbranch, .x = saved.middle, .rstd = saved.ffn_rstd, .dx = dx, .add_to_dx = true});
  attention_.Backward(
      ctx, {.dy = dx, .x = saved.attention_in, .rope_table = args.rope_table, .dx = dbranch},
      saved.attention);
  attention_norm_.Backward(
      ctx,
      {.dy = dbranch, .x = saved.x, .rstd = saved.attention_rstd, .dx = dx, .add_to_dx = true});
}

}  // namespace unipool
