#include "model/optimizer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/ops/adamw.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"
#include "runtime/status.h"

namespace unipool {

absl::StatusOr<std::unique_ptr<Optimizer>> Optimizer::Create(ParameterList& parameters,
                                                             const GradientReducer& reducer,
                                                             const AdamWSettings& settings) {
  auto self = std::unique_ptr<Optimizer>(new Optimizer(parameters, settings));
  constexpr auto kDense = ParameterKind::kReplicated, kExpert = ParameterKind::kExpert;
  const Tensor values = parameters.values(kDense);
  const Tensor shard = reducer.DenseShard(values);
  const int64_t shard_begin = shard.as<float>() - values.as<float>();
  self->dense_.values = shard;
  self->dense_.grads = reducer.DenseShard(parameters.grads(kDense));
  self->dense_.rounded = reducer.DenseShard(parameters.rounded(kDense));
  self->dense_.decayed =
      std::clamp<int64_t>(parameters.decayed(kDense) - shard_begin, 0, shard.numel());
  self->expert_.values = parameters.values(kExpert);
  self->expert_.grads = parameters.grads(kExpert);
  self->expert_.rounded = parameters.rounded(kExpert);
  self->expert_.decayed = parameters.decayed(kExpert);
  RETURN_IF_ERROR(self->AllocateMoments(&self->dense_));
  RETURN_IF_ERROR(self->AllocateMoments(&self->expert_));
  return self;
}

absl::Status Optimizer::AllocateMoments(Part* part) {
  const Tensor& values = part->values;
  const int64_t elements = values.numel();
  ASSIGN_OR_RETURN(part->moments, Buffer::Allocate(values.device, 2 * values.bytes()));
  float* moments = static_cast<float*>(part->moments.data());
  part->m = Tensor::Of(moments, {elements}, values.device);
  part->v = Tensor::Of(moments + elements, {elements}, values.device);
  return absl::OkStatus();
}

void Optimizer::Step(Context& ctx, int64_t step, double lr, double grad_scale) {
  Update(ctx, dense_, step, lr, grad_scale);
  Update(ctx, expert_, step, lr, grad_scale);
  // AdamW clears the gradients that it reads, which are only this rank's shard of the dense ones.
  const Tensor dense_grads = parameters_.grads(ParameterKind::kReplicated);
  if (dense_.grads.numel() < dense_grads.numel()) {
    Compute(ctx, Fill{.x = dense_grads, .value = 0});
  }
}

void Optimizer::Update(Context& ctx, const Part& part, int64_t step, double lr, double grad_scale) {
  const bool rounds = !part.rounded.absent();
  const auto update = [&](int64_t begin, int64_t end, float weight_decay) {
    if (begin == end) return;
    const double beta1 = settings_.beta1, beta2 = settings_.beta2;
    Compute(ctx, AdamW{.value = part.values.Rows(begin, end),
                       .grad = part.grads.Rows(begin, end),
                       .m = part.m.Rows(begin, end),
                       .v = part.v.Rows(begin, end),
                       .rounded = rounds ? part.rounded.Rows(begin, end) : Tensor{},
                       .lr = static_cast<float>(lr),
                       .beta1 = settings_.beta1,
                       .beta2 = settings_.beta2,
                       .eps = settings_.eps,
                       .weight_decay = weight_decay,
                       .bias1 = static_cast<float>(1 - std::pow(beta1, step)),
                       .bias2 = static_cast<float>(1 - std::pow(beta2, step)),
                       .grad_scale = static_cast<float>(grad_scale)});
  };
  update(0, part.decayed, settings_.weight_decay);
  update(part.decayed, part.values.numel(), 0.0f);
}

std::vector<MomentSlice> Optimizer::Moments() const {
  std::vector<MomentSlice> slices;
  AddMoments(dense_, ParameterKind::kReplicated, &slices);
  AddMoments(expert_, ParameterKind::kExpert, &slices);
  return slices;
}

// A part is a range of the flat values; a parameter may overlap it in part.
void Optimizer::AddMoments(const Part& part, ParameterKind kind,
                           std::vector<MomentSlice>* slices) const {
  const float* const first = part.values.as<float>();
  for (const Parameter& parameter : parameters_.parameters()) {
    if (parameter.kind != kind) continue;
    const int64_t at = parameter.value.as<float>() - first;
    const int64_t begin = std::max<int64_t>(at, 0);
    const int64_t end = std::min(at + parameter.numel(), part.values.numel());
    if (begin >= end) continue;
    slices->push_back({.parameter = &parameter,
                       .begin = begin - at,
                       .end = end - at,
                       .m = part.m.Rows(begin, end),
                       .v = part.v.Rows(begin, end)});
  }
  std::sort(slices->begin(), slices->end(), [](const MomentSlice& a, const MomentSlice& b) {
    return a.m.as<float>() < b.m.as<float>();
  });
}

}  // namespace unipool
