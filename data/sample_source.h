// The samples of one part (training, validation or test) of all the data, in the order in which
// they are used: a pure function of the settings and the sample's number.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/indexed_dataset.h"
#include "data/sample_order.h"

namespace unipool {

struct TokenLocation {
  const IndexedDataset* dataset;
  int64_t token;  // of its stream
};

// Any thread may read.
class SampleSource {
 public:
  virtual ~SampleSource() = default;

  // After so many samples those before come again.
  virtual int64_t samples_per_epoch() const = 0;
  // The sequence + 1 ids of sample g >= 0, over all epochs.
  virtual void Read(int64_t sample, absl::Span<int32_t> ids) const = 0;
  // Where one of those ids stands, for errors.
  virtual TokenLocation Locate(int64_t sample, int64_t offset) const = 0;
};

struct SourceOptions {
  enum class Order { kStateless, kMegatron };
  Order order = Order::kStateless;
  // One shard's data without weights is not a blend; with weights, one a shard, it is
  // (model/method.md#sample-order).
  std::vector<double> weights = {};
  std::string split;  // as SplitSequences takes it
  Split part = Split::kTrain;
  int64_t sequence;
  uint64_t seed;  // below 2^32 for kMegatron
  // Samples that will be asked for, 1 or more; kMegatron's arrays depend on it. More may be read:
  // the order then starts again.
  int64_t num_samples;
  std::string cache_folder = "";  // of kMegatron's arrays; "" = beside the data
};

// `shards` are borrowed and outlive the source. Errors name the shard.
absl::StatusOr<std::unique_ptr<SampleSource>> CreateSampleSource(
    const std::vector<const IndexedDataset*>& shards, const SourceOptions& options);

}  // namespace unipool
