// `order: MEGATRON`: the samples of one part of a shard in the order of Megatron-Core's GPT dataset
// (model/method.md#sample-order). A "document" is a sequence of the dataset. The documents of the
// part are shuffled over all epochs together and form one stream of tokens; sample i starts at
// token i * sequence of the stream; then the samples are shuffled. If only a small part of the last
// epoch is needed, that epoch is shuffled separately. All random numbers come from one generator
// per part.
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

// Which samples to order.
struct MegatronPart {
  SequenceRange range;  // sequences of the part
  int64_t sequence;     // input tokens of a sample
  int64_t num_samples;  // 1 or more; determines the number of epochs
  uint32_t seed;
};

struct SamplePosition {
  uint32_t document;  // index into the order of documents
  uint32_t offset;    // first token of the sample in that document
};

struct MegatronIndices {
  std::vector<int32_t> documents;  // order of documents: sequence ids, over all epochs
  // Start of each sample in the order of the stream, then the start of the first one not included.
  std::vector<SamplePosition> samples;
  std::vector<uint32_t> shuffle;  // training sample i is samples[shuffle[i]]
};

// INVALID_ARGUMENT if the part has no tokens, or if the number of documents or samples exceeds the
// range of the arrays' types. Uses 12 bytes per sample of all epochs and 4 per document.
absl::StatusOr<MegatronIndices> BuildMegatronIndices(const IndexedDataset& dataset,
                                                     const MegatronPart& part);

// The order defined by MegatronIndices, cached in an order file beside the data with only what the
// num_samples samples need: 4 bytes per document and 8 per sample. Any thread may read.
class MegatronOrder : public SampleSource {
 public:
  // `name` ("train", ...) becomes part of the file's name; `cache_folder` as CacheEntry::folder.
  // `dataset` is borrowed and must outlive the order. Errors as BuildMegatronIndices.
  static absl::StatusOr<std::unique_ptr<SampleSource>> Create(const IndexedDataset& dataset,
                                                              const MegatronPart& part,
                                                              const std::string& name,
                                                              const std::string& cache_folder);

  // The requested number of samples; the order repeats after them.
  int64_t samples_per_epoch() const override { return num_samples_; }
  void Read(int64_t sample, absl::Span<int32_t> ids) const override;
  TokenLocation Locate(int64_t sample, int64_t offset) const override;

 private:
  MegatronOrder(const IndexedDataset& dataset, CachedBytes bytes);
  SamplePosition PositionOf(int64_t sample) const;
  // Calls visit(first token in dataset_, count) for consecutive pieces from the start of the sample
  // on, `tokens` tokens in total.
  template <typename Visit>
  void ForEachPiece(int64_t sample, int64_t tokens, Visit visit) const;

  const IndexedDataset& dataset_;
  const CachedBytes bytes_;
  int64_t num_samples_;
  const int32_t* documents_;
  const SamplePosition* samples_;
};

}  // namespace unipool
