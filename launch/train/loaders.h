// Creates the batch loaders of a run from its `data` and `eval` settings.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "data/batch_loader.h"
#include "data/sample_source.h"
#include "launch/config/corpus.h"
#include "launch/config/messages.h"

namespace unipool {

// The loaders borrow the sources.
struct Loaders {
  std::vector<std::unique_ptr<SampleSource>> sources;
  std::unique_ptr<BatchLoader> train;
  // One step of validation or test is a whole evaluation of eval.sequences sequences.
  std::unique_ptr<BatchLoader> validation;  // null if data.split has no validation part
  std::unique_ptr<BatchLoader> test;        // null unless eval.test
};

// Loaders for rank `rank` of `ranks`, with version `order_version` of the order (data/blend.h).
// `corpus` is borrowed. Errors name the field or the file.
absl::StatusOr<Loaders> CreateLoaders(const config::Run& run, const Corpus& corpus, int rank,
                                      int ranks, int order_version);

// The step of Loaders::validation that is evaluated after training step `step`.
int64_t ValidationWindow(const config::Eval& eval, int64_t step);

}  // namespace unipool
