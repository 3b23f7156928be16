#include "launch/train/recovery.h"

#include <glog/logging.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"

namespace unipool {

Recovery::Recovery(const config::Divergence& settings, ModelOnDevice& model, World& world)
    : model_(model), world_(world), guard_(settings) {}

absl::StatusOr<Recovery::Action> Recovery::Judge(const StepResult& result,
                                                 const std::function<absl::Status()>& rerun_step) {
  switch (guard_.Judge(result.loss(), result.grad_norm)) {
    case DivergenceGuard::Verdict::kSound:
      return Action::kUpdate;
    case DivergenceGuard::Verdict::kSkip:
      SkipUpdate(result.step);
      return Action::kSkipUpdate;
    case DivergenceGuard::Verdict::kRewind:
      DropGradients();
      return RequestRewind(result.step, guard_.reason());
    case DivergenceGuard::Verdict::kStop:
      break;
  }
  return Diverged(result, rerun_step);
}

absl::Status Recovery::JudgeEvaluation(int64_t step, absl::string_view part, double loss) {
  if (std::isfinite(loss)) return absl::OkStatus();
  const std::string reason = absl::StrCat("the ", part, " loss is ", loss);
  if (guard_.MayRewind()) return RequestRewind(step, reason);
  return absl::OutOfRangeError(DivergedText(step) + reason);
}

void Recovery::Restore(const Checkpoint& checkpoint) {
  const config::Manifest& manifest = checkpoint.manifest();
  const config::Manifest::Divergence& saved = manifest.divergence();
  guard_.Restore({.losses = {saved.losses().begin(), saved.losses().end()},
                  .norms = {saved.norms().begin(), saved.norms().end()},
                  .skipped_in_a_row = saved.skipped_in_a_row(),
                  .skipped = saved.skipped(),
                  .rewinds = saved.rewinds()});
  rewound_steps_ = manifest.data().rewound_steps();
  if (!rewind_due_.has_value()) return;
  guard_.CountRewind(rewind_due_->rewinds);
  rewound_steps_ = rewind_due_->next_data_step - checkpoint.step();
  rewind_due_.reset();
}

// The state is then that before the step, except for the count of skipped updates and the previous
// micro-batch in comm/load_statistics.h.
void Recovery::SkipUpdate(int64_t step) {
  LOG_IF(WARNING, world_.is_first())
      << "step " << step << ": update skipped (" << state().skipped_in_a_row
      << " in a row): " << guard_.reason();
  DropGradients();
  model_.model().statistics().DropStep(model_.context());
}

absl::Status Recovery::RequestRewind(int64_t step, absl::string_view reason) {
  rewind_due_ = {.next_data_step = step + rewound_steps_, .rewinds = rewinds()};
  return absl::AbortedError(absl::StrCat("diverged at step ", step, ": ", reason));
}

std::string Recovery::DivergedText(int64_t step) const {
  const std::string after = rewinds() > 0 ? absl::StrCat(" after ", rewinds(), " rewinds") : "";
  return absl::StrCat("diverged at step ", step, after, ": ");
}

// All ranks run the same ops in the same order. The rank with the earliest bad tensor reports it.
absl::Status Recovery::Diverged(const StepResult& result,
                                const std::function<absl::Status()>& rerun_step) {
  const std::string diverged = absl::StrCat(DivergedText(result.step), guard_.reason());
  if (std::isfinite(result.loss()) && std::isfinite(result.grad_norm)) {
    return absl::OutOfRangeError(diverged);
  }
  const FiniteCheck check = RerunChecked(rerun_step);
  const bool found = !check.first.empty();
  int64_t earliest = found ? -check.first_look : std::numeric_limits<int64_t>::min();
  world_.groups().world().AllReduce(Tensor::Of(&earliest, {1}), ReduceOp::kMax, model_.stream());
  const bool is_earliest = found && -check.first_look == earliest;
  const absl::Status status = absl::OutOfRangeError(absl::StrCat(
      diverged, "; first bad tensor: ", is_earliest ? check.first : "none on a second run"));
  const absl::Status agreed = world_.Agree(is_earliest ? status : absl::OkStatus());
  return agreed.ok() ? status : agreed;
}

// Checks the weights, then repeats the step from zero gradients and checks the outputs of all ops.
FiniteCheck Recovery::RerunChecked(const std::function<absl::Status()>& rerun_step) {
  FiniteCheck check;
  for (const Parameter& parameter : model_.parameters().parameters()) {
    const int64_t element = FirstNonFinite(parameter.value);
    if (element >= 0 && check.first.empty()) {
      check.first = absl::StrCat("weight ", parameter.name, ", element ", element);
    }
  }
  DropGradients();
  model_.context().finite_check = &check;
  const absl::Status status = rerun_step();
  LOG_IF(ERROR, !status.ok()) << status.message();
  model_.context().finite_check = nullptr;
  return check;
}

void Recovery::DropGradients() {
  for (const auto kind : {ParameterKind::kReplicated, ParameterKind::kExpert}) {
    Compute(model_.context(), Fill{.x = model_.parameters().grads(kind), .value = 0});
  }
}

}  // namespace unipool
