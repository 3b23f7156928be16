// From a run's `data` and `eval` to its batches: which files, which order, how many samples.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "configs/run.pb.h"
#include "data/batch_loader.h"
#include "data/sample_source.h"
#include "launch/config/corpus.h"

namespace unipool {

// The loaders borrow the sources.
struct Loaders {
  std::vector<std::unique_ptr<SampleSource>> sources;
  std::unique_ptr<BatchLoader> train;
  // A step of these is one evaluation: eval.sequences of them.
  std::unique_ptr<BatchLoader> validation;
  std::unique_ptr<BatchLoader> test;  // null unless eval.test
};

absl::StatusOr<Loaders> CreateLoaders(const config::Run& run, const Corpus& corpus, int rank,
                                      int ranks);

// The step of Loaders::validation that the validation after training step `step` is on.
int64_t ValidationWindow(const config::Eval& eval, int64_t step);

}  // namespace unipool
