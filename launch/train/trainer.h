// The training loop: owns the model, the optimizer, the data loaders and the memory of a step, and
// fixes the order of things in a step. It reports records; writing files and printing are the
// caller's part.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "comm/gradient_reducer.h"
#include "data/batch_loader.h"
#include "data/blend.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/reader.h"
#include "launch/config/messages.h"
#include "launch/train/chunk_trial.h"
#include "launch/train/device_batch.h"
#include "launch/train/evaluator.h"
#include "launch/train/loaders.h"
#include "launch/train/recovery.h"
#include "launch/train/step_record.h"
#include "launch/train/stop_agreement.h"
#include "launch/world/model_on_device.h"
#include "launch/world/world.h"
#include "model/optimizer.h"
#include "model/schedule.h"

namespace unipool {

class Trainer {
 public:
  // `run` is resolved and checked; `corpus` and `world` are borrowed and must outlive the trainer.
  // Collective.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const config::Run& run,
                                                         const Corpus& corpus, World& world);

  ~Trainer();

  // Trains the remaining steps, or until the ranks agree to stop. `report` gets a record per step
  // on every rank, and before step 1 one of step 0 that holds only a validation, or nothing if the
  // data have no validation part; an error that it returns ends the run. Errors of a run that
  // diverges, on a step or an evaluation:
  //   OUT_OF_RANGE: divergence.action does not allow to train on. Names the step and, if a number
  //   of a step is not finite, the first bad tensor. The weights are those before that step.
  //   ABORTED: divergence.action requests a rewind. Restore a checkpoint of a step before
  //   bad_step(), then call Run again.
  using Report = std::function<absl::Status(const StepRecord&)>;
  absl::Status Run(const Report& report);

  // `wants_stop` is called in every step and every batch of an evaluation, on this rank. When it
  // returns true on any rank, all ranks stop: after the current step, or within an evaluation,
  // which is then due again.
  void set_wants_stop(std::function<bool()> wants_stop) {
    stop_.set_wants_stop(std::move(wants_stop));
  }
  // All steps are trained and the last weights are validated.
  bool finished() const { return step_ >= settings_.steps && !validation_due_; }
  // The ranks agreed to stop.
  bool stopped() const { return stop_.stopped(); }

  // Trains one step. The record has no evaluation and no times.
  absl::StatusOr<StepRecord> Step();
  // Evaluates the weights on the validation part, which the data must have. No value if the ranks
  // agree to stop meanwhile. Collective.
  absl::StatusOr<std::optional<Validation>> Validate();

  // Makes Run return after step `step`, which may be 0. The schedule stays that of the whole run.
  void StopAfter(int64_t step) { stop_after_ = step; }

  // What a checkpoint holds. Valid until the next step.
  TrainingState state();
  // Continues from a checkpoint. After an ABORTED error this is a rewind: it is counted, and the
  // data up to and including the bad step are skipped. After an error the state is undefined until
  // a later call succeeds. Collective.
  absl::Status Restore(const Checkpoint& checkpoint);

  // The number of finished steps.
  int64_t step() const { return step_; }
  int64_t rewinds() const { return recovery_->state().rewinds; }
  // After an ABORTED Run: the first step that is to be left out.
  int64_t bad_step() const { return recovery_->bad_step(); }
  // The step of the checkpoint that was restored, -1 for a new run.
  int64_t resumed_from() const { return resumed_from_; }
  // The changes of the config since the start of the run, which the next checkpoints keep.
  const std::vector<ConfigChange>& changes() const { return changes_; }
  void set_changes(std::vector<ConfigChange> changes) { changes_ = std::move(changes); }
  // The state differs from that of the restored checkpoint.
  bool changed() const { return changed_; }
  ParameterList& parameters() { return on_device_->parameters(); }
  Transformer& model() { return on_device_->model(); }
  Profiler& profiler() { return profiler_; }
  Arena& arena() { return on_device_->arena(); }
  Context& context() { return on_device_->context(); }
  // Waits until the device has finished all work.
  void Synchronize() { on_device_->stream().Synchronize(); }
  int64_t tokens_per_step() const { return tokens_per_step_; }
  const ChunkTrial& chunk_trial() const { return chunk_trial_; }

 private:
  struct Settings {
    int64_t steps;
    double clip_norm;
  };

  Trainer(const config::Run& run, const Corpus& corpus, World& world);
  absl::Status CreateOnDevice(const config::Run& run);
  absl::Status UseOrder(int version);

  // The parts of a step.
  absl::Status RunMicroBatches(StepResult* result);
  absl::Status ForwardBackward();
  absl::Status SumOverRanks(const absl::Status& mine, LossSums::Values* losses);
  double ReduceGradients();
  void Update(const StepResult& result);
  absl::Status RerunStep();

  absl::StatusOr<StepRecord> TimedStep();
  absl::Status EvaluateInto(StepRecord* record);
  absl::StatusOr<bool> EvaluateParts(StepRecord* record);
  absl::StatusOr<std::optional<Validation>> Evaluate(BatchLoader& loader, int64_t window,
                                                     absl::string_view part);
  void TryChunks(double seconds);
  double GradScale(double norm) const;

  const std::unique_ptr<const config::Run> run_;
  const Corpus& corpus_;
  World& world_;
  GradientReducer reducer_;
  Settings settings_{};
  Schedule schedule_{};
  int64_t tokens_per_step_ = 0;
  std::unique_ptr<ModelOnDevice> on_device_;
  LossSums sums_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<Recovery> recovery_;
  ChunkTrial chunk_trial_{1, 1};
  Loaders loaders_;
  int order_version_ = kOrderVersion;
  std::vector<ConfigChange> changes_;
  DeviceBatch batch_;
  StopAgreement stop_;
  std::unique_ptr<Evaluator> evaluator_;
  Profiler profiler_;
  int64_t step_ = 0;
  bool validation_due_ = true;  // the current weights are not validated yet
  int64_t resumed_from_ = -1;
  bool changed_ = true;
  int64_t stop_after_ = std::numeric_limits<int64_t>::max();
};

}  // namespace unipool
