#include "launch/analysis/text_loss.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "configs/run.pb.h"
#include "data/batch_loader.h"
#include "runtime/status.h"

namespace unipool {
namespace {

absl::Status ReadBatch(const EvaluationText& text, Slice slice, TokenBatch* batch) {
  const int64_t sequence = batch->sequence;
  std::vector<int32_t> ids(sequence + 1);
  batch->ids.resize(slice.count);
  std::iota(batch->ids.begin(), batch->ids.end(), slice.first);
  batch->tokens.clear();
  batch->targets.clear();
  for (const int64_t id : batch->ids) {
    RETURN_IF_ERROR(text.Read(id, absl::MakeSpan(ids)));
    batch->tokens.insert(batch->tokens.end(), ids.begin(), ids.end() - 1);
    batch->targets.insert(batch->targets.end(), ids.begin() + 1, ids.end());
  }
  return absl::OkStatus();
}

// Bytes of text that the tokens stand for; NaN without a tokenizer or for an id outside its
// vocabulary.
double BytesOf(const Tokenizer* tokenizer, const std::vector<int32_t>& tokens) {
  double bytes = 0;
  for (const int32_t id : tokens) {
    if (tokenizer == nullptr || id >= tokenizer->vocab()) {
      return std::numeric_limits<double>::quiet_NaN();
    }
    bytes += tokenizer->NumBytes(id);
  }
  return bytes;
}

}  // namespace

absl::StatusOr<TextLoss> MeasureTextLoss(const EvaluationText& text, BatchHook* hook,
                                         InferenceModel& model) {
  World& world = model.world();
  const int64_t sequence = model.run().model().sequence();
  const BatchLoaderOptions options{.sequence = sequence,
                                   .global_batch = text.part().sequences,
                                   .micro_batch = model.batch_tokens() / sequence,
                                   .rank = world.rank(),
                                   .ranks = world.size(),
                                   .vocab = model.run().model().vocab()};
  double sums[] = {0, 0, 0};  // loss, tokens, bytes
  TokenBatch batch{.sequence = sequence};
  TokenAnswers answers;
  absl::Status status;
  for (int i = 0; i < NumMicroSteps(options); ++i) {
    // After an error a rank runs empty batches, because model.Run is collective.
    if (status.ok()) status = ReadBatch(text, RankSlice(options, i), &batch);
    if (!status.ok()) batch = {.sequence = sequence};
    model.Run(batch, TokenOutputs::kLosses, hook, &answers);
    sums[0] = std::accumulate(answers.losses.begin(), answers.losses.end(), sums[0]);
    sums[1] += static_cast<double>(batch.targets.size());
    sums[2] += BytesOf(model.tokenizer(), batch.targets);
  }
  RETURN_IF_ERROR(world.Agree(status));
  world.groups().world().AllReduce(Tensor::Of(sums, {3}), ReduceOp::kSum, model.stream());
  TextLoss loss{.validation = {.loss = sums[0] / sums[1], .bits_per_byte = {}},
                .tokens = std::llround(sums[1])};
  if (std::isfinite(sums[2])) loss.validation.bits_per_byte = sums[0] / std::log(2.0) / sums[2];
  return loss;
}

void SumOverRanks(std::vector<int64_t>* counts, InferenceModel& model) {
  model.world().groups().world().AllReduce(
      Tensor::Of(counts->data(), {static_cast<int64_t>(counts->size())}), ReduceOp::kSum,
      model.stream());
}

}  // namespace unipool
