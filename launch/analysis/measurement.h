// What a model is judged by: its loss on text, its accuracy on tasks, or both.
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

struct Yardsticks {
  const EvaluationText* text = nullptr;  // null: no loss
  std::vector<std::string> tasks = {};   // files of questions
};

struct Measurement {
  std::optional<TextLoss> text;
  std::vector<TaskReport> tasks;
};

// `hook` may be null. Collective.
absl::StatusOr<Measurement> Measure(const Yardsticks& yardsticks, BatchHook* hook,
                                    InferenceModel& model);

}  // namespace unipool
