// `order: STATELESS`, and the split of a dataset into training, validation and test parts.
//
// The tokens of a part are one stream; sample i consists of sequence + 1 tokens from token
// i * sequence on, so that neighbours share one token (model/method.md#sample-order). Epoch e
// visits the samples in a pseudo-random permutation keyed by (seed, shard, e): a Feistel network
// over the next power of four with cycle walking. The position of any sample is computed without
// index arrays.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "data/indexed_dataset.h"
#include "runtime/rng.h"

namespace unipool {

// The image of i, 0 <= i < size, under a permutation of [0, size) that depends on the key. Constant
// time and memory.
int64_t PermuteIndex(int64_t i, int64_t size, uint64_t key);

// Tokens [begin, end) of the stream of a dataset.
struct TokenRange {
  int64_t begin;
  int64_t end;
};

// Sequences [begin, end) of a dataset.
struct SequenceRange {
  int64_t begin;
  int64_t end;
};

enum class Split { kTrain, kValidation, kTest };
constexpr size_t kSplitParts = 3;

// Shares of the parts, with sum 1. A part of share 0 does not exist.
using SplitShares = std::array<double, kSplitParts>;

// Parses one to three weights for training, validation and test, for example "969,30,1"; parts
// without a weight get share 0, as in Megatron. INVALID_ARGUMENT names `weights` if they are
// malformed.
absl::StatusOr<SplitShares> ParseSplitShares(const std::string& weights);
inline constexpr char kSplitWanted[] =
    "one to three weights of 0 or more, not all 0; for example \"969,30,1\"";

// The sequences of one part. A part ends at round_half_even(cumulative share * sequences)
// (model/method.md#data-split). INVALID_ARGUMENT names `weights` if they are malformed.
absl::StatusOr<SequenceRange> SplitSequences(const IndexedDataset& dataset,
                                             const std::string& weights, Split split);
// The same as tokens.
absl::StatusOr<TokenRange> SplitRange(const IndexedDataset& dataset, const std::string& weights,
                                      Split split);

// Immutable; any thread may use it.
class SampleOrder {
 public:
  // INVALID_ARGUMENT if the range has fewer than sequence + 1 tokens. Without `shuffle` samples are
  // in file order (validation, test). Each `shard` of a blend, counted from 0, has its own
  // permutations.
  static absl::StatusOr<SampleOrder> Create(TokenRange range, int64_t sequence, uint64_t seed,
                                            bool shuffle, int64_t shard = 0);

  int64_t samples_per_epoch() const { return samples_; }
  // First token, in the stream of the dataset, of sample g >= 0, counted over all epochs.
  int64_t Start(int64_t sample) const;

 private:
  SampleOrder(TokenRange range, int64_t sequence, Rng keys, bool shuffle, int64_t samples);

  TokenRange range_;
  int64_t sequence_;
  Rng keys_;  // word e is the key of epoch e
  bool shuffle_;
  int64_t samples_;
};

}  // namespace unipool
