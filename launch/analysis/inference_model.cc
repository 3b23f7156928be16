#include "launch/analysis/inference_model.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"
#include "launch/config/corpus.h"
#include "launch/config/run_tokenizer.h"
#include "model/footprint.h"
#include "runtime/copy.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// A forward pass without a backward pass keeps the activations of one layer at a time.
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
  ASSIGN_OR_RETURN(
      self->on_device_,
      ModelOnDevice::Create(run, Plan(run, batch_tokens, world),
                            "use fewer ranks per host or smaller --batch-tokens", world));
  RETURN_IF_ERROR(self->on_device_->ReserveActivations());
  return self;
}

absl::Status InferenceModel::Load(const Checkpoint& checkpoint) {
  RETURN_IF_ERROR(LoadParameters(checkpoint, parameters(), world_));
  parameters().RoundWeights(on_device_->context());
  order_version_ = OrderVersion(run_->data(), checkpoint.manifest().data().order_version());
  return absl::OkStatus();
}

void InferenceModel::Run(const TokenBatch& batch, TokenOutputs outputs, BatchHook* hook,
                         TokenAnswers* answers) {
  const int64_t tokens = static_cast<int64_t>(batch.tokens.size());
  const bool wants_likeliest = outputs == TokenOutputs::kLossesAndLikeliest;
  CHECK_LE(tokens, batch_tokens_);
  CHECK_EQ(batch.targets.size(), batch.tokens.size());
  CHECK_EQ(batch.ids.size() * batch.sequence, batch.tokens.size());
  answers->losses.resize(tokens);
  answers->likeliest.resize(wants_likeliest ? tokens : 0);
  if (hook != nullptr) hook->OnBatch(batch);
  Arena& arena = on_device_->arena();
  ArenaScope scope(arena);
  const auto copied = [&](const std::vector<int32_t>& ids) {
    const Tensor tensor = arena.New<int32_t>({tokens});
    WriteTensor(ids.data(), tensor);
    return tensor;
  };
  Transformer::Evaluation evaluation{.tokens = copied(batch.tokens),
                                     .targets = copied(batch.targets),
                                     .sequence = batch.sequence,
                                     .hook = hook};
  evaluation.results.losses = arena.New({tokens});
  if (wants_likeliest) evaluation.results.likeliest = arena.New<int32_t>({tokens, 1});
  on_device_->model().Evaluate(on_device_->context(), evaluation, on_device_->saved());
  ReadTensor(evaluation.results.losses, answers->losses.data());
  if (wants_likeliest) ReadTensor(evaluation.results.likeliest, answers->likeliest.data());
}

}  // namespace unipool
