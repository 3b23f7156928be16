#include "launch/train/loaders.h"

#include <algorithm>
#include <utility>

#include "configs/run.pb.h"
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

absl::StatusOr<Loaders> CreateLoaders(const config::Run& run, const Corpus& corpus, int rank,
                                      int ranks, int order_version) {
  BatchLoaderOptions options{.sequence = run.model().sequence(),
                             .global_batch = run.data().global_batch(),
                             .micro_batch = run.data().micro_batch(),
                             .rank = rank,
                             .ranks = ranks,
                             .vocab = run.model().vocab()};
  if (options.micro_batch == 0) options.micro_batch = (options.global_batch + ranks - 1) / ranks;
  Loaders loaders;
  const auto add_source = [&](Split part) -> absl::StatusOr<const SampleSource*> {
    ASSIGN_OR_RETURN(auto source, CreateSource(run, corpus, part, order_version));
    return loaders.sources.emplace_back(std::move(source)).get();
  };
  ASSIGN_OR_RETURN(const SampleSource* train, add_source(Split::kTrain));
  ASSIGN_OR_RETURN(loaders.train, BatchLoader::Create(*train, options));
  loaders.train->SkipTo(run.data().skip_steps());
  if (HasValidation(run.data())) {
    ASSIGN_OR_RETURN(const SampleSource* validation, add_source(Split::kValidation));
    ASSIGN_OR_RETURN(loaders.validation, CreateEvaluation(run, *validation, options));
  }
  if (run.eval().test()) {
    ASSIGN_OR_RETURN(const SampleSource* test, add_source(Split::kTest));
    ASSIGN_OR_RETURN(loaders.test, CreateEvaluation(run, *test, options));
  }
  return loaders;
}

int64_t ValidationWindow(const config::Eval& eval, int64_t step) {
  const bool moves = eval.window() == config::Eval::ADVANCING && eval.every_steps() > 0;
  return moves && step > 0 ? (step - 1) / eval.every_steps() : 0;
}

}  // namespace unipool
