// Trains tiny runs on a GPU and on the CPU, and compares their results.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "launch/train/loaders.h"
#include "launch/train/trainer.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_run.h"

namespace unipool::testing {

// The result of the first rank.
struct Outcome {
  std::vector<StepRecord> records;
  std::vector<float> weights;  // all values
};

class GpuRun {
 public:
  GpuRun();

  // A run of `steps` steps on the first GPU in float32. The caller may change it.
  config::Run Settings(Variant variant, int64_t steps) const;
  config::Run OnCpu(config::Run run) const;
  // After training, `end` is called on every rank with its trainer; it may be null.
  using End = std::function<void(Trainer&, World&)>;
  Outcome Train(const config::Run& run, int ranks = 1, const End& end = nullptr) const;
  const Corpus& corpus() const { return *corpus_; }
  std::string Path(const std::string& name) const { return folder_.Path(name); }

 private:
  TempFolder folder_;
  std::unique_ptr<Corpus> corpus_;
};

// All values, copied from the device.
std::vector<float> ReadWeights(const ParameterList& parameters);
// Compares losses and gradient norms of the last steps of both, to the relative tolerance
// `relative`.
void ExpectSameLosses(const Outcome& actual, const Outcome& expected, double relative);
void ExpectSameBits(const Outcome& actual, const Outcome& expected);

}  // namespace unipool::testing
