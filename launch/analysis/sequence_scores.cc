#include "launch/analysis/sequence_scores.h"

#include <algorithm>

namespace unipool {
namespace {

// Number of predicted tokens of a sequence: all but the first.
int64_t NumPredicted(const std::vector<int32_t>& sequence) {
  return std::max<int64_t>(0, static_cast<int64_t>(sequence.size()) - 1);
}

// Groups sequences of decreasing length into batches of at most `batch_tokens` tokens including
// padding, and small enough that each rank gets a batch. The result is the same on every rank.
std::vector<std::vector<int64_t>> PlanBatches(absl::Span<const std::vector<int32_t>> sequences,
                                              int64_t batch_tokens, int ranks) {
  std::vector<int64_t> order;
  int64_t total = 0;
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (NumPredicted(sequences[i]) > 0) order.push_back(static_cast<int64_t>(i));
    total += NumPredicted(sequences[i]);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return sequences[a].size() > sequences[b].size(); });
  const int64_t limit = std::min(batch_tokens, (total + ranks - 1) / ranks);
  std::vector<std::vector<int64_t>> batches;
  int64_t longest = 0;
  for (const int64_t i : order) {
    const bool fits =
        !batches.empty() && longest * static_cast<int64_t>(batches.back().size() + 1) <= limit;
    if (!fits) {
      batches.emplace_back();
      longest = NumPredicted(sequences[i]);
    }
    batches.back().push_back(i);
  }
  return batches;
}

void FillBatch(absl::Span<const std::vector<int32_t>> sequences, const std::vector<int64_t>& chosen,
               int64_t first_id, TokenBatch* batch) {
  batch->sequence = NumPredicted(sequences[chosen[0]]);
  const int64_t tokens = batch->sequence * static_cast<int64_t>(chosen.size());
  batch->ids.clear();
  batch->tokens.assign(tokens, 0);
  batch->targets.assign(tokens, 0);
  for (size_t row = 0; row < chosen.size(); ++row) {
    const std::vector<int32_t>& sequence = sequences[chosen[row]];
    const int64_t at = static_cast<int64_t>(row) * batch->sequence;
    std::copy(sequence.begin(), sequence.end() - 1, batch->tokens.begin() + at);
    std::copy(sequence.begin() + 1, sequence.end(), batch->targets.begin() + at);
    batch->ids.push_back(first_id + chosen[row]);
  }
}

// Start of each sequence's predicted tokens in an array of those of all sequences, and its size.
std::vector<int64_t> Offsets(absl::Span<const std::vector<int32_t>> sequences) {
  std::vector<int64_t> offsets = {0};
  for (const std::vector<int32_t>& sequence : sequences) {
    offsets.push_back(offsets.back() + NumPredicted(sequence));
  }
  return offsets;
}

}  // namespace

std::vector<SequenceScores> ScoreSequences(absl::Span<const std::vector<int32_t>> sequences,
                                           int64_t first_id, BatchHook* hook,
                                           InferenceModel& model) {
  const int ranks = model.world().size(), rank = model.world().rank();
  const auto batches = PlanBatches(sequences, model.batch_tokens(), ranks);
  const std::vector<int64_t> offsets = Offsets(sequences);
  std::vector<float> losses(offsets.back(), 0.0f);
  std::vector<int32_t> likeliest(offsets.back(), 0);
  TokenAnswers answers;
  const size_t rounds = (batches.size() + ranks - 1) / ranks;
  for (size_t round = 0; round < rounds; ++round) {
    TokenBatch batch{.sequence = 1};
    const size_t mine = round * ranks + rank;
    if (mine < batches.size()) FillBatch(sequences, batches[mine], first_id, &batch);
    model.Run(batch, TokenOutputs::kLossesAndLikeliest, hook, &answers);
    for (size_t row = 0; row < batch.ids.size(); ++row) {
      const int64_t at = static_cast<int64_t>(row) * batch.sequence;
      const int64_t i = batch.ids[row] - first_id, count = offsets[i + 1] - offsets[i];
      std::copy_n(answers.losses.begin() + at, count, losses.begin() + offsets[i]);
      std::copy_n(answers.likeliest.begin() + at, count, likeliest.begin() + offsets[i]);
    }
  }
  // Each element is set on one rank and zero on all others, so the sums are exact.
  Communicator& world = model.world().groups().world();
  world.AllReduce(Tensor::Of(losses.data(), {offsets.back()}), ReduceOp::kSum, model.stream());
  world.AllReduce(Tensor::Of(likeliest.data(), {offsets.back()}), ReduceOp::kSum, model.stream());
  std::vector<SequenceScores> scores(sequences.size());
  for (size_t i = 0; i < sequences.size(); ++i) {
    for (int64_t t = offsets[i]; t < offsets[i + 1]; ++t) {
      scores[i].logprobs.push_back(-losses[t]);
      scores[i].likeliest.push_back(likeliest[t]);
    }
  }
  return scores;
}

}  // namespace unipool
