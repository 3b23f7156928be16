// The samples of one part (training, validation or test) of one shard or of a blend of shards, in
// the order in which they are used. A sample is a pure function of the options and its number.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/blend.h"
#include "data/indexed_dataset.h"
#include "data/sample_order.h"

namespace unipool {

// Position of a token on disk, for error messages.
struct TokenLocation {
  const IndexedDataset* dataset;  // borrowed from the source
  int64_t token;                  // index in the stream of the dataset
};

// Immutable; any thread may read.
class SampleSource {
 public:
  virtual ~SampleSource() = default;

  // Number of samples after which the order ends and starts again; INT64_MAX if it never does.
  virtual int64_t samples_per_epoch() const = 0;
  // Reads sample g >= 0, counted over all epochs, into `ids`, which has sequence + 1 elements.
  virtual void Read(int64_t sample, absl::Span<int32_t> ids) const = 0;
  // Position of element `offset` of that sample.
  virtual TokenLocation Locate(int64_t sample, int64_t offset) const = 0;
};

struct SourceOptions {
  enum class Order { kStateless, kMegatron };
  Order order = Order::kStateless;
  // One weight per shard makes a blend (model/method.md#sample-order); empty for a single shard
  // that is not blended.
  std::vector<double> weights = {};
  std::string split;  // weights of the parts, as for SplitSequences
  Split part = Split::kTrain;
  int64_t sequence;  // input tokens of a sample
  uint64_t seed;     // below 2^32 for kMegatron
  // Samples that the run needs, 1 or more; the order of kMegatron depends on it and repeats after
  // that number.
  int64_t num_samples;
  std::string cache_folder = "";      // for order files of kMegatron; "" = beside the data
  int order_version = kOrderVersion;  // of a blend with kMegatron
};

// `shards` are borrowed and must outlive the source. Errors name the shard, or the part if the
// split gives it no share.
absl::StatusOr<std::unique_ptr<SampleSource>> CreateSampleSource(
    const std::vector<const IndexedDataset*>& shards, const SourceOptions& options);

}  // namespace unipool
