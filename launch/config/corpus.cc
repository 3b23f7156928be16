#include "launch/config/corpus.h"

#include <algorithm>

#include "configs/run.pb.h"
#include "runtime/status.h"

namespace unipool {

absl::StatusOr<std::unique_ptr<Corpus>> Corpus::Open(const config::Data& data) {
  auto corpus = std::make_unique<Corpus>();
  const auto open = [&corpus](const std::string& prefix) -> absl::Status {
    ASSIGN_OR_RETURN(corpus->datasets_.emplace_back(), IndexedDataset::Open(prefix));
    const IndexedDataset& shard = *corpus->shards_.emplace_back(corpus->datasets_.back().get());
    corpus->identities_.push_back({.prefix = prefix,
                                   .documents = shard.num_documents(),
                                   .tokens = shard.num_tokens(),
                                   .index_hash = shard.IndexHash(),
                                   .token_sample_hash = shard.TokenSampleHash()});
    return absl::OkStatus();
  };
  if (data.source().empty()) RETURN_IF_ERROR(open(data.prefix()));
  for (const config::Data::Source& source : data.source()) {
    RETURN_IF_ERROR(open(source.prefix()));
    corpus->weights_.push_back(source.weight());
  }
  return corpus;
}

int64_t SamplesWanted(const config::Run& run, Split part) {
  const config::Eval& eval = run.eval();
  const int64_t sequences = std::max<int64_t>(1, eval.sequences());
  if (part == Split::kTrain) return run.steps() * run.data().global_batch();
  if (part == Split::kTest || eval.every_steps() == 0) return sequences;
  return (run.steps() / eval.every_steps() + 1) * sequences;
}

bool HasValidation(const config::Data& data) {
  return ParseSplitShares(data.split()).value()[static_cast<size_t>(Split::kValidation)] > 0;
}

int OrderVersion(const config::Data& data, int began) {
  if (data.order() != config::Data::MEGATRON) return kOrderVersion;
  std::vector<double> weights;
  for (const config::Data::Source& source : data.source()) weights.push_back(source.weight());
  weights = NormalizeWeights(weights);
  const bool same = SharingWeights(weights, began) == SharingWeights(weights, kOrderVersion);
  return same ? kOrderVersion : began;
}

absl::StatusOr<std::unique_ptr<SampleSource>> CreateSource(const config::Run& run,
                                                           const Corpus& corpus, Split part,
                                                           int order_version) {
  using Order = SourceOptions::Order;
  return CreateSampleSource(
      corpus.shards(),
      {.order = run.data().order() == config::Data::MEGATRON ? Order::kMegatron : Order::kStateless,
       .weights = corpus.weights(),
       .split = run.data().split(),
       .part = part,
       .sequence = run.model().sequence(),
       .seed = run.seed(),
       .num_samples = SamplesWanted(run, part),
       .cache_folder = run.data().cache_folder(),
       .order_version = order_version});
}

}  // namespace unipool
