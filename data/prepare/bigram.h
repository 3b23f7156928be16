// The loss of a bigram model, as a baseline: a language model with a lower loss uses more context
// than the previous token.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "data/indexed_dataset.h"

namespace unipool {

struct BigramReport {
  int64_t train_tokens;
  int64_t validation_tokens;  // predicted tokens: all but the first
  double loss;                // mean of -ln p(token | previous token), in nats
};

// Evaluates p(b | a) = (count(a, b) + 1) / (count(a) + vocab), with the counts of the training part
// of `split` ("90,5,5"), on the stream of the validation part; if `tokens` is not 0, on the first
// `tokens` predictions only. Allocates 8 vocab^2 bytes. INVALID_ARGUMENT for a part with fewer than
// 2 tokens, an id outside the vocabulary, or a vocabulary above 8192.
absl::StatusOr<BigramReport> BigramLoss(const IndexedDataset& dataset, const std::string& split,
                                        int64_t vocab, int64_t tokens = 0);

}  // namespace unipool
