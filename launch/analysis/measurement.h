// Measures a model on text (loss), on tasks (accuracy), or both.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launch/analysis/evaluation_text.h"
#include "launch/analysis/inference_model.h"
#include "launch/analysis/multiple_choice.h"
#include "launch/analysis/text_loss.h"

namespace unipool {

// What to measure a model on.
struct Yardsticks {
  const EvaluationText* text = nullptr;  // borrowed; null: no loss is measured
  std::vector<std::string> tasks = {};   // paths of question files (multiple_choice.h)
};

// The results, absent for what was not measured.
struct Measurement {
  std::optional<TextLoss> text;
  std::vector<TaskReport> tasks;  // in the order of Yardsticks::tasks
};

// `hook` (may be null) sees every batch. Collective: all ranks call it with equal arguments and get
// equal results.
absl::StatusOr<Measurement> Measure(const Yardsticks& yardsticks, BatchHook* hook,
                                    InferenceModel& model);

}  // namespace unipool
