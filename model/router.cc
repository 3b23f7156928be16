#include "model/router.h"

#include "absl/strings/str_cat.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/router_scores.h"
#include "runtime/ops/sigmoid_router.h"
#include "runtime/ops/top_k.h"

namespace unipool {
namespace {

using Kind = RouterSettings::Kind;

const Parameter* AddScale(ParameterList& parameters, const std::string& prefix) {
  return parameters.Add({.name = absl::StrCat(prefix, ".scale"),
                         .shape = {1},
                         .kind = ParameterKind::kReplicated,
                         .init_std = 0,
                         .decay = false,
                         .precise = true});
}

const Parameter* AddBias(ParameterList& parameters, const std::string& prefix, int64_t experts) {
  return parameters.Add({.name = absl::StrCat(prefix, ".bias"),
                         .shape = {experts},
                         .kind = ParameterKind::kState,
                         .init_std = 0,
                         .decay = false,
                         .precise = true});
}

}  // namespace

Router::Router(ParameterList& parameters, const std::string& prefix, int64_t hidden,
               const RouterSettings& settings, float init_std)
    : settings_(settings),
      weight_(parameters, {{absl::StrCat(prefix, ".weight"), settings.experts}}, hidden, init_std,
              /*precise=*/true),
      scale_(settings.kind == Kind::kNorm ? AddScale(parameters, prefix) : nullptr),
      bias_(settings.kind == Kind::kSigmoidBias ? AddBias(parameters, prefix, settings.experts)
                                                : nullptr) {}

void Router::Allocate(Context& ctx, int64_t tokens, Saved* saved) const {
  saved->scores = ctx.arena->New({tokens, settings_.experts});
  if (settings_.kind == Kind::kNorm) saved->logits = ctx.arena->New({tokens, settings_.experts});
}

void Router::Forward(Context& ctx, Tensor x, Tensor counts, Saved* saved) const {
  const int64_t tokens = x.dim(0);
  saved->ids = ctx.arena->New<int32_t>({tokens, settings_.top_k});
  saved->gates = ctx.arena->New({tokens, settings_.top_k});
  Score(ctx, x, *saved);
  Compute(ctx, TopK{.scores = saved->scores,
                    .bias = bias_ == nullptr ? Tensor{} : bias_->weight,
                    .ids = saved->ids,
                    .gates = saved->gates,
                    .counts = counts});
  if (!normalizes()) return;
  saved->gate_sums = ctx.arena->New({tokens});
  Compute(ctx, NormalizeGates{.gates = saved->gates, .sums = saved->gate_sums});
}

void Router::Score(Context& ctx, Tensor x, const Saved& saved) const {
  const Tensor scores = saved.scores;
  const Tensor logits = settings_.kind == Kind::kNorm ? saved.logits : scores;
  weight_.Forward(ctx, x, Tensor{}, logits);
  if (settings_.kind == Kind::kNorm) {
    Compute(ctx, NormScoresForward{.logits = logits,
                                   .scale = scale_->weight,
                                   .c = settings_.c,
                                   .eps = settings_.eps,
                                   .scores = scores});
  } else if (settings_.kind == Kind::kSoftmax) {
    Compute(ctx, SoftmaxScoresForward{.logits = logits, .scores = scores});
  } else {
    Compute(ctx, SigmoidScoresForward{.logits = logits, .scores = scores});
  }
}

void Router::Backward(Context& ctx, Tensor dgates, Tensor column, Tensor x, const Saved& saved,
                      Tensor dx) const {
  ArenaScope scope(*ctx.arena);
  if (normalizes()) {
    Compute(ctx, NormalizeGatesBackward{
                     .gates = saved.gates, .sums = saved.gate_sums, .dgates = dgates});
  }
  const Tensor dscores = ctx.arena->New({x.dim(0), settings_.experts});
  Compute(ctx,
          ScoresGradient{.ids = saved.ids, .dgates = dgates, .column = column, .dscores = dscores});
  ScoresBackward(ctx, saved, dscores);
  weight_.Backward(ctx, dscores, x, dx, false);
}

// In place: dscores becomes the gradient of the logits.
void Router::ScoresBackward(Context& ctx, const Saved& saved, Tensor dscores) const {
  if (settings_.kind == Kind::kNorm) {
    Compute(ctx, NormScoresBackward{.dscores = dscores,
                                    .logits = saved.logits,
                                    .scale = scale_->weight,
                                    .c = settings_.c,
                                    .eps = settings_.eps,
                                    .dlogits = dscores,
                                    .dscale = scale_->grad});
  } else if (settings_.kind == Kind::kSoftmax) {
    Compute(ctx,
            SoftmaxScoresBackward{.dscores = dscores, .scores = saved.scores, .dlogits = dscores});
  } else {
    Compute(ctx,
            SigmoidScoresBackward{.dscores = dscores, .scores = saved.scores, .dlogits = dscores});
  }
}

void Router::MoveBias(Context& ctx, Tensor counts) const {
  if (bias_ == nullptr) return;
  Compute(ctx, MoveRouterBias{.counts = counts, .rate = settings_.bias_rate, .bias = bias_->value});
}

}  // namespace unipool
