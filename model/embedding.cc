#include "model/embedding.h"

#include "runtime/ops/compute.h"
#include "runtime/ops/embedding.h"

namespace unipool {

Embedding::Embedding(ParameterList& parameters, int64_t vocab, int64_t hidden, float init_std)
    : table_(parameters.Add({.name = "model.embed_tokens.weight",
                             .shape = {vocab, hidden},
                             .kind = ParameterKind::kReplicated,
                             .init_std = init_std,
                             .decay = true})) {}

void Embedding::Forward(Context& ctx, Tensor tokens, Tensor y) const {
  Compute(ctx, EmbeddingForward{.tokens = tokens, .table = table_->weight, .y = y});
}

void Embedding::Backward(Context& ctx, Tensor tokens, Tensor dy) const {
  Compute(ctx, EmbeddingBackward{.tokens = tokens, .dy = dy, .dtable = table_->grad});
}

}  // namespace unipool
