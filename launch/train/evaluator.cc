#include "launch/train/evaluator.h"

#include <cmath>
#include <limits>
#include <utility>

#include "runtime/copy.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Bytes of text behind the tokens. NaN without a tokenizer, or if an id is outside its vocabulary.
double BytesOf(const Tokenizer* tokenizer, const Tensor& tokens) {
  if (tokenizer == nullptr) return std::numeric_limits<double>::quiet_NaN();
  double bytes = 0;
  for (int64_t t = 0; t < tokens.numel(); ++t) {
    const int32_t id = tokens.as<int32_t>()[t];
    bytes += id < tokenizer->vocab() ? tokenizer->NumBytes(id)
                                     : std::numeric_limits<double>::quiet_NaN();
  }
  return bytes;
}

}  // namespace

Evaluator::Evaluator(const Parts& parts, std::unique_ptr<Tokenizer> tokenizer)
    : parts_(parts), tokenizer_(std::move(tokenizer)) {}

absl::StatusOr<std::optional<Validation>> Evaluator::Evaluate(BatchLoader& loader, int64_t window) {
  Stream& stream = parts_.model.stream();
  Sums mine;
  loader.Seek(window);
  for (int i = 0; i < loader.num_micro_steps(); ++i) {
    if (parts_.stop.Agree(parts_.world, stream)) return std::nullopt;
    SetProgress(parts_.model.context(), "reading data");
    AddBatch(loader.Next(), &mine);
  }
  RETURN_IF_ERROR(parts_.world.Agree(loader.status()));
  double sums[] = {mine.loss, mine.tokens, mine.bytes};
  parts_.world.groups().world().AllReduce(Tensor::Of(sums, {3}), ReduceOp::kSum, stream);
  Validation validation{.loss = sums[0] / sums[1], .bits_per_byte = std::nullopt};
  if (std::isfinite(sums[2])) validation.bits_per_byte = sums[0] / std::log(2.0) / sums[2];
  return validation;
}

void Evaluator::AddBatch(const Batch& batch, Sums* sums) {
  ModelOnDevice& model = parts_.model;
  ArenaScope scope(model.arena());
  const Tensor losses = model.arena().New({batch.targets.numel()});
  const DeviceBatch::Ids ids = parts_.batch.CopyToDevice(batch, model.stream());
  model.model().Evaluate(
      model.context(),
      {.tokens = ids.tokens, .targets = ids.targets, .results = {.losses = losses}}, model.saved());
  losses_.resize(static_cast<size_t>(losses.numel()));
  ReadTensor(losses, losses_.data());
  for (const float loss : losses_) sums->loss += loss;
  sums->bytes += BytesOf(tokenizer_.get(), batch.targets);
  sums->tokens += static_cast<double>(losses.numel());
}

}  // namespace unipool
