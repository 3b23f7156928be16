#include "launch/analysis/inference_model.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_format.h"
#include "configs/run.pb.h"
#include "launch/text/run_tokenizer.h"
#include "model/footprint.h"
#include "runtime/device.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// A forward pass keeps one layer at a time.
int64_t PlanActivations(config::Run run, int64_t batch_tokens, int ranks) {
  run.mutable_model()->set_layers(1);
  run.mutable_pool()->set_layers_per_pool(1);
  run.mutable_data()->set_micro_batch(0);
  run.mutable_data()->set_global_batch(ranks *
                                       std::max<int64_t>(1, batch_tokens / run.model().sequence()));
  return PlanMemory(run, ranks, 0).activations;
}

absl::Status CheckMemory(int64_t weights, int64_t activations, const World& world) {
  const int ranks = RanksOnThisHost();
  const int64_t memory = HostMemoryBytes();
  if (weights + activations <= memory / ranks) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrFormat(
      "rank %d needs %d MiB (weights %d, activations %d), but its host has %d MiB for %d of the "
      "ranks: expected fewer ranks a host or smaller --batch-tokens",
      world.rank(), (weights + activations) >> 20, weights >> 20, activations >> 20, memory >> 20,
      ranks));
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
  const int64_t weights = RankParameters(run, world.size(), world.rank()) * int64_t{sizeof(float)};
  const int64_t activations = PlanActivations(run, batch_tokens, world.size());
  RETURN_IF_ERROR(CheckMemory(weights, activations, world));
  ASSIGN_OR_RETURN(self->model_,
                   Transformer::Create(run, self->parameters_, world.groups().expert()));
  RETURN_IF_ERROR(self->parameters_.Allocate(Device{}, world.size()));
  self->parameters_.Initialize(run.seed());
  self->saved_ = self->model_->NewSaved();
  // Address space for the case that one rank owns all experts that are chosen.
  ASSIGN_OR_RETURN(Arena arena, Arena::Create(Device{}, activations * (1 + world.size())));
  self->arena_ = std::make_unique<Arena>(std::move(arena));
  self->stream_ = Stream::Create(Device{});
  self->ctx_.stream = self->stream_.get();
  self->ctx_.arena = self->arena_.get();
  return self;
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
  const auto view = [tokens](const std::vector<int32_t>& ids) {
    return Tensor::Of(const_cast<int32_t*>(ids.data()), {tokens});
  };
  Transformer::Evaluation evaluation{.tokens = view(batch.tokens),
                                     .targets = view(batch.targets),
                                     .sequence = batch.sequence,
                                     .hook = hook};
  evaluation.results.losses = Tensor::Of(answers->losses.data(), {tokens});
  if (wants_likeliest) {
    evaluation.results.likeliest = Tensor::Of(answers->likeliest.data(), {tokens, 1});
  }
  model_->Evaluate(ctx_, evaluation, saved_);
}

}  // namespace unipool
