// Log-probabilities of given token sequences, on any number of ranks: sequences of like length run
// together, and the numbers do not depend on which, beyond rounding in float32.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "launch/analysis/inference_model.h"

namespace unipool {

// Of the tokens of a sequence after its first, which nothing predicts.
struct SequenceScores {
  std::vector<float> logprobs;     // natural logarithms
  std::vector<int32_t> likeliest;  // the model's own next token there
};

// Sequences of at most model.sequence + 1 tokens, numbered for `hook` (which may be null) from
// `first_id` on. Shorter ones are padded on the right to the longest of their batch: attention is
// causal, so that changes nothing before, but `hook` sees the padding too. Every rank gives the
// same sequences and gets all scores. Collective.
std::vector<SequenceScores> ScoreSequences(absl::Span<const std::vector<int32_t>> sequences,
                                           int64_t first_id, BatchHook* hook,
                                           InferenceModel& model);

}  // namespace unipool
