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
           {.in = shape.hidden, .init_std = init_std}),
      output_(parameters, {{absl::StrCat(prefix, ".o_proj.weight"), shape.hidden}},
              {.in = shape.heads * shape.head_dim, .init_std = output_init_std}) {}

void Attention::Allocate(Context& ctx, int64_t tokens, int64_t sequence, Saved* saved) const {
  saved->qkv = Activations(ctx, {tokens, qkv_.out()});
  saved->out = Activations(ctx, {tokens, shape_.heads * shape_.head_dim});
  saved->lse = ctx.arena->New({tokens / sequence, shape_.heads, sequence});
}

void Attention::Forward(Context& ctx, const ForwardArgs& args, const Saved& saved) const {
  qkv_.Forward(ctx, {.x = args.x, .y = saved.qkv});
  // Queries and keys are the first columns of a row, so one call rotates both.
  Compute(ctx, Rope{.x = saved.qkv,
                    .table = args.rope_table,
                    .heads = shape_.heads + shape_.kv_heads,
                    .sequence = args.rope_table.dim(0),
                    .inverse = false});
  Compute(ctx, AttentionForward{.qkv = saved.qkv,
                                .heads = shape_.heads,
                                .kv_heads = shape_.kv_heads,
                                .sequence = args.rope_table.dim(0),
                                .out = saved.out,
                                .lse = saved.lse});
  output_.Forward(ctx, {.x = saved.out, .base = args.base, .y = args.y});
}

void Attention::Backward(Context& ctx, const BackwardArgs& args, const Saved& saved) const {
  ArenaScope scope(*ctx.arena);
  const Tensor dout = Activations(ctx, {saved.out.dim(0), saved.out.dim(1)});
  const Tensor dqkv = Activations(ctx, {saved.qkv.dim(0), saved.qkv.dim(1)});
  output_.Backward(ctx, {.dy = args.dy, .x = saved.out, .dx = dout, .add_to_dx = false});
  Compute(ctx, AttentionBackward{.dout = dout,
                                 .qkv = saved.qkv,
                                 .out = saved.out,
                                 .lse = saved.lse,
                                 .heads = shape_.heads,
                                 .kv_heads = shape_.kv_heads,
                                 .sequence = args.rope_table.dim(0),
                                 .dqkv = dqkv});
  Compute(ctx, Rope{.x = dqkv,
                    .table = args.rope_table,
                    .heads = shape_.heads + shape_.kv_heads,
                    .sequence = args.rope_table.dim(0),
                    .inverse = true});
  qkv_.Backward(ctx, {.dy = dqkv, .x = args.x, .dx = args.dx, .add_to_dx = false});
}

}  // namespace unipool
