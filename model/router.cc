#include "model/router.h"

#include <glog/logging.h>

#include "absl/strings/str_cat.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/route_tokens.h"
#include "runtime/ops/router_bias.h"

namespace unipool {
namespace {

using Kind = RouterSettings::Kind;

ScoreKind KindOfScores(Kind kind) {
  switch (kind) {
    case Kind::kNorm:
      return ScoreKind::kNorm;
    case Kind::kSoftmax:
      return ScoreKind::kSoftmax;
    case Kind::kSigmoidBias:
      return ScoreKind::kSigmoid;
  }
  LOG(FATAL) << "unknown router kind " << static_cast<int>(kind);
}

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
      weight_(parameters, {{absl::StrCat(prefix, ".weight"), settings.experts}},
              {.in = hidden, .init_std = init_std, .precise = true}),
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
  if (normalizes()) saved->gate_sums = ctx.arena->New({tokens});
  Route(ctx, x, *saved, counts);
}

void Router::Score(Context& ctx, Tensor x, const Saved& saved) const {
  Saved scored;
  scored.logits = saved.logits;
  scored.scores = saved.scores;
  Route(ctx, x, scored, Tensor{});
}

void Router::Route(Context& ctx, Tensor x, const Saved& saved, Tensor counts) const {
  const Tensor logits = settings_.kind == Kind::kNorm ? saved.logits : saved.scores;
  const bool biased = bias_ != nullptr && !saved.ids.absent();
  weight_.Forward(ctx, {.x = x, .y = logits});
  Compute(ctx, RouteTokens{.kind = KindOfScores(settings_.kind),
                           .c = settings_.c,
                           .eps = settings_.eps,
                           .logits = logits,
                           .scale = scale_ == nullptr ? Tensor{} : scale_->weight,
                           .bias = biased ? bias_->weight : Tensor{},
                           .scores = saved.scores,
                           .ids = saved.ids,
                           .gates = saved.gates,
                           .gate_sums = saved.gate_sums,
                           .counts = counts});
}

void Router::Backward(Context& ctx, const BackwardArgs& args, const Saved& saved) const {
  const bool norm = settings_.kind == Kind::kNorm;
  ArenaScope scope(*ctx.arena);
  const Tensor dlogits = ctx.arena->New({args.x.dim(0), settings_.experts});
  Compute(ctx, RouteTokensBackward{.kind = KindOfScores(settings_.kind),
                                   .c = settings_.c,
                                   .eps = settings_.eps,
                                   .dgates = args.dgates,
                                   .score_gradient = args.score_gradient,
                                   .logits = saved.logits,
                                   .scale = norm ? scale_->weight : Tensor{},
                                   .scores = norm ? Tensor{} : saved.scores,
                                   .ids = saved.ids,
                                   .gates = normalizes() ? saved.gates : Tensor{},
                                   .gate_sums = saved.gate_sums,
                                   .dlogits = dlogits,
                                   .dscale = norm ? scale_->grad : Tensor{}});
  weight_.Backward(ctx, {.dy = dlogits, .x = args.x, .dx = args.dx, .add_to_dx = false});
}

void Router::MoveBias(Context& ctx, Tensor counts) const {
  if (bias_ == nullptr) return;
  Compute(ctx, MoveRouterBias{.counts = counts, .rate = settings_.bias_rate, .bias = bias_->value});
}

}  // namespace unipool
