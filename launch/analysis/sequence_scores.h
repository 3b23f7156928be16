// Log-probabilities of token sequences, on any number of ranks. Sequences of similar length form
// batches; the numbers depend on the batches only by float32 rounding.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "launch/analysis/inference_model.h"

namespace unipool {

// Scores of the tokens of a sequence except the first, which has no context.
struct SequenceScores {
  std::vector<float> logprobs;     // natural logarithms
  std::vector<int32_t> likeliest;  // the most likely token at each position
};

// Scores sequences of at most model.sequence + 1 tokens. Sequences are padded on the right to the
// longest of their batch; attention is causal, so padding does not change scores, but `hook` (may
// be null) sees it. `hook` gets the ids first_id, first_id + 1, ... Collective: every rank passes
// the same sequences and gets all scores.
std::vector<SequenceScores> ScoreSequences(absl::Span<const std::vector<int32_t>> sequences,
                                           int64_t first_id, BatchHook* hook,
                                           InferenceModel& model);

}  // namespace unipool
