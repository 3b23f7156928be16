#include "launch/analysis/measurement.h"

#include <utility>

#include "runtime/status.h"

namespace unipool {

absl::StatusOr<Measurement> Measure(const Yardsticks& yardsticks, BatchHook* hook,
                                    InferenceModel& model) {
  Measurement measurement;
  if (yardsticks.text != nullptr) {
    ASSIGN_OR_RETURN(measurement.text, MeasureTextLoss(*yardsticks.text, hook, model));
  }
  for (const std::string& task : yardsticks.tasks) {
    ASSIGN_OR_RETURN(TaskReport report, RunTask(task, hook, model));
    measurement.tasks.push_back(std::move(report));
  }
  return measurement;
}

}  // namespace unipool
