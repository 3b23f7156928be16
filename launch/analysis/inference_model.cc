#include "launch/analysis/inference_model.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "configs/run.pb.h"
#include "launch/config/run_tokenizer.h"
#include "launch/world/step_memory.h"
#include "model/footprint.h"
#include "model/precision.h"
#include "runtime/copy.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// A forward pass keeps one layer at a time.
int64_t PlanActivations(config::Run run, int64_t batch_tokens, int ranks, DeviceType device) {
  run.mutable_model()->set_layers(1);
  run.mutable_pool()->set_layers_per_pool(1);
  run.mutable_data()->set_micro_batch(0);
  run.mutable_data()->set_global_batch(ranks *
                                       std::max<int64_t>(1, batch_tokens / run.model().sequence()));
  return PlanMemory(run, ranks, 0, device).activations;
}

MemoryPlan Plan(const config::Run& run, int64_t batch_tokens, const World& world) {
  MemoryPlan plan = PlanMemory(run, world.size(), world.rank(), world.device().type);
  plan.gradients = plan.moments = plan.snapshot = 0;
  plan.activations = PlanActivations(run, batch_tokens, world.size(), world.device().type);
  return plan;
}

}  // namespace

InferenceModel::InferenceModel(const config::Run& run, int64_t batch_tokens, World& world)
    : world_(world), run_(std::make_unique<config::Run>(run)), batch_tokens_(batch_tokens) {}

absl::StatusOr<std::unique_ptr<InferenceModel>> InferenceModel::Create(const config::Run& run,
                                                                       int64_t batch_tokens,
                                                                       World& world) {
  batch_tokens = std::max(batch_tokens, run.model().sequence());
  auto self = std::unique_ptr<InferenceModel>(new InferenceModel(run, batch_tokens, world));
  ASSIGN_OR_RETURN(self->tokenizer_, OpenRunTokenizer(run));
  const Device device = world.device();
  const MemoryPlan plan = Plan(run, batch_tokens, world);
  RETURN_IF_ERROR(
      CheckMemory(plan, world, "expected fewer ranks a host or smaller --batch-tokens"));
  Context& ctx = self->ctx_;
  ctx.dtype = ActivationType(run, device.type);
  ASSIGN_OR_RETURN(self->model_,
                   Transformer::Create(run, self->parameters_, world.groups().expert(), device));
  RETURN_IF_ERROR(self->parameters_.Allocate(device, world.size(), ctx.dtype));
  self->parameters_.Initialize(run.seed());
  self->saved_ = self->model_->NewSaved();
  self->stream_ = Stream::Create(device);
  ASSIGN_OR_RETURN(Arena arena, ReserveArena(world, plan.activations));
  self->arena_ = std::make_unique<Arena>(std::move(arena));
  ctx.stream = self->stream_.get();
  ctx.arena = self->arena_.get();
  self->parameters_.RoundWeights(ctx);
  return self;
}

absl::Status InferenceModel::Load(const Checkpoint& checkpoint) {
  RETURN_IF_ERROR(LoadParameters(checkpoint, parameters_, world_));
  parameters_.RoundWeights(ctx_);
  return absl::OkStatus();
}

void InferenceModel::Run(const TokenBatch& batch, bool wants_likeliest, BatchHook* hook,
                         TokenAnswers* answers) {
  const int64_t tokens = static_cast<int64_t>(batch.tokens.size());
  CHECK_LE(tokens, batch_tokens_);
  CHECK_EQ(batch.targets.size(), batch.tokens.size());
  CHECK_EQ(batch.ids.size() * batch.sequence, batch.tokens.size());
  answers->losses.resize(tokens);
  answers->likeliest.resize(wants_likeliest ? tokens : 0);
  if (hook != nullptr) hook->OnBatch(batch);
  ArenaScope scope(*arena_);
  const auto on_device = [&](const std::vector<int32_t>& ids) {
    const Tensor tensor = arena_->New<int32_t>({tokens});
    WriteTensor(ids.data(), tensor);
    return tensor;
  };
  Transformer::Evaluation evaluation{.tokens = on_device(batch.tokens),
                                     .targets = on_device(batch.targets),
                                     .sequence = batch.sequence,
                                     .hook = hook};
  evaluation.results.losses = arena_->New({tokens});
  if (wants_likeliest) evaluation.results.likeliest = arena_->New<int32_t>({tokens, 1});
  model_->Evaluate(ctx_, evaluation, saved_);
  ReadTensor(evaluation.results.losses, answers->losses.data());
  if (wants_likeliest) ReadTensor(evaluation.results.likeliest, answers->likeliest.data());
}

}  // namespace unipool
