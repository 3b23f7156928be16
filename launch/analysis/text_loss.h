// Measures a model's loss on text; a hook can observe the routes of its tokens.
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
  int64_t tokens = 0;  // predicted tokens, over all ranks
};

// The loss over text.part(), whose sequences are distributed over the ranks. There is no padding,
// so `hook` (may be null) sees each predicted token once, on one rank; the ids of a batch are
// sequence numbers of the part. Errors are those of EvaluationText::Read of any rank. Collective.
absl::StatusOr<TextLoss> MeasureTextLoss(const EvaluationText& text, BatchHook* hook,
                                         InferenceModel& model);

// Replaces `counts` by its sum over all ranks. Collective.
void SumOverRanks(std::vector<int64_t>* counts, InferenceModel& model);

}  // namespace unipool
