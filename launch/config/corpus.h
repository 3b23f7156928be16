// Opens the datasets of a config and makes the sample sources of its parts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/indexed_dataset.h"
#include "data/sample_source.h"
#include "launch/config/messages.h"

namespace unipool {

// Identifies the content of a dataset, whatever its path is.
struct DatasetIdentity {
  std::string prefix;
  int64_t documents;
  int64_t tokens;
  std::string index_hash;         // XXH3-128 of the .idx in hexadecimal, as xxhsum -H128 prints
  std::string token_sample_hash;  // XXH3-128 of samples of the .bin
};

// The dataset of data.prefix, or those of all data.source, opened and checked. Immutable and safe
// to read from any thread.
class Corpus {
 public:
  static absl::StatusOr<std::unique_ptr<Corpus>> Open(const config::Data& data);

  const std::vector<const IndexedDataset*>& shards() const { return shards_; }
  // One per shard.
  const std::vector<DatasetIdentity>& identities() const { return identities_; }
  // One per shard of a blend; empty for data.prefix.
  const std::vector<double>& weights() const { return weights_; }

 private:
  std::vector<std::unique_ptr<IndexedDataset>> datasets_;
  std::vector<const IndexedDataset*> shards_;
  std::vector<DatasetIdentity> identities_;
  std::vector<double> weights_;
};

// Number of samples of a part that a run needs, counted as in Megatron
// (model/method.md#evaluation, model/method.md#sample-order): for validation, one evaluation more
// than there are multiples of the interval among the steps. Only the arrays of MEGATRON depend on
// it.
int64_t SamplesWanted(const config::Run& run, Split part);

// False if data.split, which must be valid, has no validation part: the run does not validate.
bool HasValidation(const config::Data& data);

// The version of the order with which a run continues that began with version `began`
// (data/blend.h): that version, or the present one if both give the same order.
int OrderVersion(const config::Data& data, int began);

// The samples of a part in the order of data.order. `run` must be resolved and checked. The corpus
// is borrowed and must outlive the source.
absl::StatusOr<std::unique_ptr<SampleSource>> CreateSource(const config::Run& run,
                                                           const Corpus& corpus, Split part,
                                                           int order_version = kOrderVersion);

}  // namespace unipool
