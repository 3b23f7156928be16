#include "launch/loaders.h"

#include <algorithm>
#include <utility>

#include "runtime/status.h"

namespace unipool {
namespace {

absl::StatusOr<std::unique_ptr<BatchLoader>> CreateEvaluation(const config::Run& run,
                                                              const SampleSource& source,
                                                              BatchLoaderOptions options) {
  options.global_batch = source.samples_per_epoch();
  if (run.eval().sequences() > 0) {
    options.global_batch = std::min(options.global_batch, run.eval().sequences());
  }
  return BatchLoader::Create(source, options);
}

}  // namespace

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

absl::StatusOr<std::unique_ptr<SampleSource>> CreateSource(const config::Run& run,
                                                           const Corpus& corpus, Split part) {
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
       .cache_folder = run.data().cache_folder()});
}

absl::StatusOr<Loaders> CreateLoaders(const config::Run& run, const Corpus& corpus, int rank,
                                      int ranks) {
  BatchLoaderOptions options{.sequence = run.model().sequence(),
                             .global_batch = run.data().global_batch(),
                             .micro_batch = run.data().micro_batch(),
                             .rank = rank,
                             .ranks = ranks,
                             .vocab = run.model().vocab()};
  if (options.micro_batch == 0) options.micro_batch = (options.global_batch + ranks - 1) / ranks;
  Loaders loaders;
  for (const Split part : {Split::kTrain, Split::kValidation, Split::kTest}) {
    if (part == Split::kTest && !run.eval().test()) continue;
    ASSIGN_OR_RETURN(loaders.sources.emplace_back(), CreateSource(run, corpus, part));
  }
  ASSIGN_OR_RETURN(loaders.train, BatchLoader::Create(*loaders.sources[0], options));
  loaders.train->SkipTo(run.data().skip_steps());
  ASSIGN_OR_RETURN(loaders.validation, CreateEvaluation(run, *loaders.sources[1], options));
  if (run.eval().test()) {
    ASSIGN_OR_RETURN(loaders.test, CreateEvaluation(run, *loaders.sources[2], options));
  }
  return loaders;
}

int64_t ValidationWindow(const config::Eval& eval, int64_t step) {
  const bool moves = eval.window() == config::Eval::ADVANCING && eval.every_steps() > 0;
  return moves && step > 0 ? (step - 1) / eval.every_steps() : 0;
}

}  // namespace unipool
