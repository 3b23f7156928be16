// Measures the loss of the current weights on the validation or test part of the data.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "data/batch_loader.h"
#include "data/tokenizer.h"
#include "launch/analysis/validation.h"
#include "launch/train/device_batch.h"
#include "launch/train/stop_agreement.h"
#include "launch/world/model_on_device.h"
#include "launch/world/world.h"

namespace unipool {

class Evaluator {
 public:
  struct Parts {
    World& world;
    ModelOnDevice& model;
    DeviceBatch& batch;  // large enough for the loaders' batches
    StopAgreement& stop;
  };

  // `parts` are borrowed and must outlive the evaluator. Bits per byte are unknown if `tokenizer`
  // is null.
  Evaluator(const Parts& parts, std::unique_ptr<Tokenizer> tokenizer);

  // The mean loss over the global batch number `window` of `loader`, which may be NaN. No value if
  // the ranks agree to stop meanwhile. Collective.
  absl::StatusOr<std::optional<Validation>> Evaluate(BatchLoader& loader, int64_t window);

 private:
  struct Sums {
    double loss = 0;  // nats
    double tokens = 0;
    double bytes = 0;  // of text behind the targets; NaN if unknown
  };
  void AddBatch(const Batch& batch, Sums* sums);

  const Parts parts_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<float> losses_;  // of one batch, on the host
};

}  // namespace unipool
