#include "model/router.h"

#include "absl/strings/str_cat.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/router_scores.h"
#include "runtime/ops/top_k.h"

namespace unipool {
namespace {

const Parameter* AddScale(ParameterList& parameters, const std::string& prefix) {
  return parameters.Add({.name = absl::StrCat(prefix, ".scale"),
                         .shape = {1},
                         .kind = ParameterKind::kReplicated,
                         .init_std = 0,
                         .decay = false,
                         .value = {},
                         .grad = {}});
}

}  // namespace

Router::Router(ParameterList& parameters, const std::string& prefix, int64_t hidden,
               const RouterSettings& settings, float init_std)
    : settings_(settings),
      weight_(parameters, {{absl::StrCat(prefix, ".weight"), settings.experts}}, hidden, init_std),
      scale_(settings.kind == RouterSettings::Kind::kNorm ? AddScale(parameters, prefix)
                                                          : nullptr) {}

void Router::Forward(Context& ctx, Tensor x, Tensor counts, Saved* saved) const {
  const int64_t tokens = x.dim(0);
  saved->scores = ctx.arena->New({tokens, settings_.experts});
  saved->ids = ctx.arena->New<int32_t>({tokens, settings_.top_k});
  saved->gates = ctx.arena->New({tokens, settings_.top_k});
  if (settings_.kind == RouterSettings::Kind::kNorm) {
    saved->logits = ctx.arena->New({tokens, settings_.experts});
    weight_.Forward(ctx, x, saved->logits, false);
    Compute(ctx, NormScoresForward{.logits = saved->logits,
                                   .scale = scale_->value,
                                   .c = settings_.c,
                                   .eps = settings_.eps,
                                   .scores = saved->scores});
  } else {
    weight_.Forward(ctx, x, saved->scores, false);
    Compute(ctx, SoftmaxScoresForward{.logits = saved->scores, .scores = saved->scores});
  }
  Compute(
      ctx,
      TopK{.scores = saved->scores, .ids = saved->ids, .gates = saved->gates, .counts = counts});
}

void Router::Backward(Context& ctx, Tensor dgates, Tensor column, Tensor x, const Saved& saved,
                      Tensor dx) const {
  ArenaScope scope(*ctx.arena);
  const Tensor dscores = ctx.arena->New({x.dim(0), settings_.experts});
  Compute(ctx,
          ScoresGradient{.ids = saved.ids, .dgates = dgates, .column = column, .dscores = dscores});
  const Tensor dlogits = dscores;
  if (settings_.kind == RouterSettings::Kind::kNorm) {
    Compute(ctx, NormScoresBackward{.dscores = dscores,
                                    .logits = saved.logits,
                                    .scale = scale_->value,
                                    .c = settings_.c,
                                    .eps = settings_.eps,
                                    .dlogits = dlogits,
                                    .dscale = scale_->grad});
  } else {
    Compute(ctx,
            SoftmaxScoresBackward{.dscores = dscores, .scores = saved.scores, .dlogits = dlogits});
  }
  weight_.Backward(ctx, dlogits, x, dx, false);
}

}  // namespace unipool
