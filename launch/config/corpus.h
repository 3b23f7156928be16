// The data that a config names, opened: its files, and the samples of a part in the run's order.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/indexed_dataset.h"
#include "data/sample_source.h"

namespace unipool {

namespace config {
class Data;
class Run;
}  // namespace config

// What tells a dataset's files from others that have their names.
struct DatasetIdentity {
  std::string prefix;
  int64_t documents;
  int64_t tokens;
  std::string index_hash;         // of the .idx, in hexadecimal, as xxhsum -H128 gives it
  std::string token_sample_hash;  // of places of the .bin
};

// The files of data.prefix or of each data.source, opened and checked. Immutable; any thread reads.
class Corpus {
 public:
  static absl::StatusOr<std::unique_ptr<Corpus>> Open(const config::Data& data);

  const std::vector<const IndexedDataset*>& shards() const { return shards_; }
  // One a shard.
  const std::vector<DatasetIdentity>& identities() const { return identities_; }
  // One a shard; none for data.prefix, which is no blend.
  const std::vector<double>& weights() const { return weights_; }

 private:
  std::vector<std::unique_ptr<IndexedDataset>> datasets_;
  std::vector<const IndexedDataset*> shards_;
  std::vector<DatasetIdentity> identities_;
  std::vector<double> weights_;
};

// Samples of a part that a run asks for, as Megatron counts them (model/method.md#evaluation,
// model/method.md#sample-order): one evaluation more than there are multiples of the interval among
// the steps. Decides MEGATRON's arrays only.
int64_t SamplesWanted(const config::Run& run, Split part);

// The samples of a part, in the order of data.order. `run` is resolved and checked; the corpus is
// borrowed and outlives the source.
absl::StatusOr<std::unique_ptr<SampleSource>> CreateSource(const config::Run& run,
                                                           const Corpus& corpus, Split part);

}  // namespace unipool
