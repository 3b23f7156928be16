// Recovers a run from steps and evaluations whose numbers are bad: skips the update of a step,
// requests a rewind to a checkpoint, or ends the run with the first bad tensor.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launch/checkpoint/reader.h"
#include "launch/train/divergence.h"
#include "launch/train/step_record.h"
#include "launch/world/model_on_device.h"
#include "launch/world/world.h"
#include "runtime/finite_check.h"

namespace unipool {

// All calls are collective; the numbers that they get are the same on all ranks.
class Recovery {
 public:
  enum class Action { kUpdate, kSkipUpdate };

  // `model` and `world` are borrowed and must outlive this.
  Recovery(const config::Divergence& settings, ModelOnDevice& model, World& world);

  // What to do after the gradients of a step are reduced. For kSkipUpdate the gradients and the
  // routing statistics of the step are already discarded. Errors:
  //   ABORTED: rewind. Restore a checkpoint of a step before bad_step(), then train on.
  //   OUT_OF_RANGE: the run ends. If a number is not finite, `rerun_step` first repeats the forward
  //   and the backward pass from the same weights, and the error names the first bad tensor.
  // The weights are those before the step in both cases.
  absl::StatusOr<Action> Judge(const StepResult& result,
                               const std::function<absl::Status()>& rerun_step);
  // The same for the loss of an evaluation after `step` on the part `part` of the data; skipping
  // updates would not help, the weights are bad already.
  absl::Status JudgeEvaluation(int64_t step, absl::string_view part, double loss);

  // Adopts the state of a checkpoint that the trainer restored. If a rewind was requested, counts
  // it and skips the data up to the bad step.
  void Restore(const Checkpoint& checkpoint);

  const DivergenceState& state() const { return guard_.state(); }
  // Steps of data that rewinds have skipped so far.
  int64_t rewound_steps() const { return rewound_steps_; }
  // After an ABORTED error: the first step that is to be left out.
  int64_t bad_step() const { return rewind_due_.value().next_data_step - rewound_steps_; }

 private:
  struct RewindDue {
    int64_t next_data_step;  // the step of data after the bad one
    int64_t rewinds;         // before this one
  };

  int64_t rewinds() const { return state().rewinds; }
  void SkipUpdate(int64_t step);
  // ABORTED, because `step` or the evaluation after it is bad. The rewind will skip the data up to
  // and including those of `step`.
  absl::Status RequestRewind(int64_t step, absl::string_view reason);
  absl::Status Diverged(const StepResult& result, const std::function<absl::Status()>& rerun_step);
  FiniteCheck RerunChecked(const std::function<absl::Status()>& rerun_step);
  std::string DivergedText(int64_t step) const;
  void DropGradients();

  ModelOnDevice& model_;
  World& world_;
  DivergenceGuard guard_;
  int64_t rewound_steps_ = 0;
  std::optional<RewindDue> rewind_due_;
};

}  // namespace unipool
