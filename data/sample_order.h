// Which tokens make up sample g of training: a pure function of (seed, g), without index arrays.
//
// `order: STATELESS`: a split's tokens are one stream; sample i reads sequence + 1 tokens from
// token i * sequence on (model/method.md#sample-order: one token of overlap). Epoch e visits the
// samples in the order of a keyed permutation of (seed, e): a Feistel network over the next power
// of four, cycle-walked.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "data/indexed_dataset.h"
#include "runtime/rng.h"

namespace unipool {

// i -> a permutation of [0, size), different for each key. O(1) time and memory.
int64_t PermuteIndex(int64_t i, int64_t size, uint64_t key);

// A part of a dataset's stream of tokens.
struct TokenRange {
  int64_t begin;
  int64_t end;
};

// Some of a dataset's sequences.
struct SequenceRange {
  int64_t begin;
  int64_t end;
};

enum class Split { kTrain, kValidation, kTest };

// Parts of the dataset by sequence index: `weights` as "969,30,1" or "90,5,5"; boundaries at
// round-half-even(cumulative share * sequences), model/method.md#sample-order. Errors name the
// text.
absl::StatusOr<SequenceRange> SplitSequences(const IndexedDataset& dataset,
                                             const std::string& weights, Split split);
absl::StatusOr<TokenRange> SplitRange(const IndexedDataset& dataset, const std::string& weights,
                                      Split split);

class SampleOrder {
 public:
  // INVALID_ARGUMENT, with the numbers, when the range holds no sample of `sequence` + 1 tokens.
  // `shuffle` false gives samples in file order (validation). Shards of a blend, counted from 0,
  // have permutations of their own.
  static absl::StatusOr<SampleOrder> Create(TokenRange range, int64_t sequence, uint64_t seed,
                                            bool shuffle, int64_t shard = 0);

  int64_t samples_per_epoch() const { return samples_; }
  // Where sample g (any g >= 0, over all epochs) starts in the dataset's stream.
  int64_t Start(int64_t sample) const;

 private:
  SampleOrder(TokenRange range, int64_t sequence, Rng keys, bool shuffle, int64_t samples);

  TokenRange range_;
  int64_t sequence_;
  Rng keys_;  // word e is epoch e's
  bool shuffle_;
  int64_t samples_;
};

}  // namespace unipool
