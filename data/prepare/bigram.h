// The loss of a bigram model: what a language model must beat to have learned more than which token
// follows which.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "data/indexed_dataset.h"

namespace unipool {

struct BigramReport {
  int64_t train_tokens;
  int64_t validation_tokens;  // that were predicted: all but the first
  double loss;                // mean of -ln p(token | token before), in nats
};

// p(b | a) = (count(a, b) + 1) / (count(a) + vocab) with the counts of the training part of `split`
// ("90,5,5"), over the stream of the validation part, of which only the first `tokens` are
// predicted where that is not 0. Errors name what is missing, an id outside the vocabulary, or a
// vocabulary too large for a table of its pairs.
absl::StatusOr<BigramReport> BigramLoss(const IndexedDataset& dataset, const std::string& split,
                                        int64_t vocab, int64_t tokens = 0);

}  // namespace unipool
