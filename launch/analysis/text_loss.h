// A model's loss on text, and the routes its tokens take.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "launch/analysis/evaluation_text.h"
#include "launch/analysis/inference_model.h"
#include "launch/analysis/validation.h"

namespace unipool {

struct TextLoss {
  Validation validation{};
  int64_t tokens = 0;
};

// Of all ranks together. Every token counts once and there is no padding, so that `hook`, which may
// be null, sees each rank's share of exactly these tokens; a batch's ids number the part's
// sequences. Collective.
absl::StatusOr<TextLoss> MeasureTextLoss(const EvaluationText& text, BatchHook* hook,
                                         InferenceModel& model);

// Sums over all ranks. Collective.
void SumOverRanks(std::vector<int64_t>* counts, InferenceModel& model);

}  // namespace unipool
