#include "model/attention.h"

#include "absl/strings/str_cat.h"
#include "runtime/ops/attention.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/rope.h"

namespace unipool {

Attention::Attention(ParameterList& parameters, const std::string& prefix,
                     const AttentionShape& shape, float init_std, float output_init_std)
    : shape_(shape),
      qkv_(parameters,
           {{absl::StrCat(prefix, ".q_proj.weight"), shape.heads * shape.head_dim},
            {absl::StrCat(prefix, ".k_proj.weight"), shape.kv_heads * shape.head_dim},
            {absl::StrCat(prefix, ".v_proj.weight"), shape.kv_heads * shape.head_dim}},
           shape.hidden, init_std),
      output_(parameters, {{absl::StrCat(prefix, ".o_proj.weight"), shape.hidden}},
              shape.heads * shape.head_dim, output_init_std) {}

void Attention::Allocate(Context& ctx, int64_t tokens, int64_t sequence, Saved* saved) const {
  saved->qkv = Activations(ctx, {tokens, qkv_.out()});
  saved->out = Activations(ctx, {tokens, shape_.heads * shape_.head_dim});
  saved->lse = ctx.arena->New({tokens / sequence, shape_.heads, sequence});
}

void Attention::Forward(Context& ctx, Tensor x, Tensor rope_table, Tensor base, Tensor y,
                        const Saved& saved) const {
  qkv_.Forward(ctx, x, Tensor{}, saved.qkv);
  // Queries and keys stand first in a row, so one call turns both.
  Compute(ctx, Rope{.x = saved.qkv,
                    .table = rope_table,
                    .heads = shape_.heads + shape_.kv_heads,
                    .sequence = rope_table.dim(0),
                    .inverse = false});
  Compute(ctx, AttentionForward{.qkv = saved.qkv,
                                .heads = shape_.heads,
                                .kv_heads = shape_.kv_heads,
                                .sequence = rope_table.dim(0),
                                .out = saved.out,
                                .lse = saved.lse});
  output_.Forward(ctx, saved.out, base, y);
}

void Attention::Backward(Context& ctx, Tensor dy, Tensor x, Tensor rope_table, const Saved& saved,
                         Tensor dx) const {
  ArenaScope scope(*ctx.arena);
  const Tensor dout = Activations(ctx, {saved.out.dim(0), saved.out.dim(1)});
  const Tensor dqkv = Activations(ctx, {saved.qkv.dim(0), saved.qkv.dim(1)});
  output_.Backward(ctx, dy, saved.out, dout, false);
  Compute(ctx, AttentionBackward{.dout = dout,
                                 .qkv = saved.qkv,
                                 .out = saved.out,
                                 .lse = saved.lse,
                                 .heads = shape_.heads,
                                 .kv_heads = shape_.kv_heads,
                                 .sequence = rope_table.dim(0),
                                 .dqkv = dqkv});
  Compute(ctx, Rope{.x = dqkv,
                    .table = rope_table,
                    .heads = shape_.heads + shape_.kv_heads,
                    .sequence = rope_table.dim(0),
                    .inverse = true});
  qkv_.Backward(ctx, dqkv, x, dx, false);
}

}  // namespace unipool
