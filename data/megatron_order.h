// `order: MEGATRON`: the samples of one shard's part in the order of Megatron-Core's GPT dataset
// (model/method.md#sample-order), from a generator of its own: the part's documents ("documents"
// are sequences), shuffled over all epochs, are one stream that is cut every `sequence` tokens;
// then the cuts are shuffled. A last epoch of which little is needed is shuffled apart from the
// others.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/index_cache.h"
#include "data/indexed_dataset.h"
#include "data/sample_order.h"
#include "data/sample_source.h"

namespace unipool {

// What is asked of a shard.
struct MegatronPart {
  SequenceRange range;  // of the shard's sequences
  int64_t sequence;     // tokens of a sample that are inputs
  int64_t num_samples;  // wanted, 1 or more: decides the number of epochs
  uint32_t seed;
};

struct SamplePosition {
  uint32_t document;  // place in the document order
  uint32_t offset;    // tokens of that document before the sample
};

struct MegatronIndices {
  std::vector<int32_t> documents;  // sequence ids, over all epochs
  std::vector<SamplePosition>
      samples;                    // of the cuts in the stream's order, with the end of the last
  std::vector<uint32_t> shuffle;  // place in the order of training -> cut
};

// INVALID_ARGUMENT when the part holds no token, or so many samples are wanted that the arrays'
// types cannot number them. Takes 12 bytes a sample of all epochs and 4 a document.
absl::StatusOr<MegatronIndices> BuildMegatronIndices(const IndexedDataset& dataset,
                                                     const MegatronPart& part);

// The order that the indices stand for. Of each array only what the wanted samples need is kept, in
// the order of training, in a file beside the data: 4 bytes a document, 8 a wanted sample.
class MegatronOrder : public SampleSource {
 public:
  // `name` is the part's, in the name of the file. `dataset` is borrowed and outlives the order.
  static absl::StatusOr<std::unique_ptr<SampleSource>> Create(const IndexedDataset& dataset,
                                                              const MegatronPart& part,
                                                              const std::string& name,
                                                              const std::string& cache_folder);

  int64_t samples_per_epoch() const override { return num_samples_; }
  void Read(int64_t sample, absl::Span<int32_t> ids) const override;
  TokenLocation Locate(int64_t sample, int64_t offset) const override;

 private:
  MegatronOrder(const IndexedDataset& dataset, CachedBytes bytes);
  SamplePosition PositionOf(int64_t sample) const;
  // Calls visit(token, count) for pieces of the stream of `dataset_` from the sample's start on,
  // until they have `tokens` tokens.
  template <typename Visit>
  void ForEachPiece(int64_t sample, int64_t tokens, Visit visit) const;

  const IndexedDataset& dataset_;
  const CachedBytes bytes_;
  int64_t num_samples_;
  const int32_t* documents_;
  const SamplePosition* samples_;
};

}  // namespace unipool
