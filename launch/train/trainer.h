// Trains: owns the model, the optimizer, the loaders and the step's memory, and knows the order of
// things in a step. It reports records; files and terminals are others' work.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "comm/gradient_reducer.h"
#include "configs/run.pb.h"
#include "data/batch_loader.h"
#include "data/sample_source.h"
#include "data/tokenizer.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/checkpoint/reader.h"
#include "launch/train/chunk_trial.h"
#include "launch/train/device_batch.h"
#include "launch/train/divergence.h"
#include "launch/train/loaders.h"
#include "launch/train/metrics.h"
#include "launch/world/world.h"
#include "model/optimizer.h"
#include "model/parameter.h"
#include "model/schedule.h"
#include "model/transformer.h"
#include "runtime/context.h"
#include "runtime/finite_check.h"

namespace unipool {

class Trainer {
 public:
  // `run` is resolved and checked; `corpus` and `world` are borrowed and outlive the trainer.
  // Collective.
  static absl::StatusOr<std::unique_ptr<Trainer>> Create(const config::Run& run,
                                                         const Corpus& corpus, World& world);

  ~Trainer();

  // Trains all steps that are left, or until ranks agree to stop. `report` gets a record a step on
  // every rank, and before step 1 one of step 0 that holds only a validation; its error ends the
  // run. OUT_OF_RANGE, naming the step and the first bad tensor, when a loss or the gradient's norm
  // is not finite: the weights are then those before that step; or when a validation is not finite.
  // ABORTED, with the same words, when divergence.action wants the run to go back: Restore a
  // checkpoint of a step before bad_step(), then call Run again.
  using Report = std::function<absl::Status(const StepRecord&)>;
  absl::Status Run(const Report& report);

  // Asked in every step and every batch of a validation, on this rank. When it says yes on any
  // rank, all stop: after the step under way, or inside of the validation, which is then due again.
  void set_wants_stop(std::function<bool()> wants_stop) { wants_stop_ = std::move(wants_stop); }
  // All steps are trained and the last weights validated.
  bool finished() const { return step_ >= settings_.steps && !validation_due_; }
  bool stopped() const { return stopped_; }

  // One optimizer step; the record has no validation and no times.
  absl::StatusOr<StepRecord> Step();
  // On the validation part; nothing where the ranks agreed to stop in between. Collective.
  absl::StatusOr<std::optional<Validation>> Validate();

  // Leaves after step `step`, 0 included, where that comes before the last one; the schedule and
  // everything else stay those of the whole run.
  void StopAfter(int64_t step) { stop_after_ = step; }

  // What a checkpoint holds; until the next step.
  TrainingState state();
  // Goes on from there. After an ABORTED step this is a rewind: it is counted, and the data up to
  // that step, included, are passed over. On an error the state is undefined until a later call
  // succeeds. Collective.
  absl::Status Restore(const Checkpoint& checkpoint);

  int64_t step() const { return step_; }  // finished
  int64_t rewinds() const { return guard_->state().rewinds; }
  // After an ABORTED Run: the step that is to be left out.
  int64_t bad_step() const { return rewind_due_.value().next_data_step - rewound_steps_; }
  // The step that Restore went to, -1 where the run began anew.
  int64_t resumed_from() const { return resumed_from_; }
  // There is something that the checkpoint restored from does not hold.
  bool changed() const { return changed_; }
  ParameterList& parameters() { return parameters_; }
  Transformer& model() { return *model_; }
  Profiler& profiler() { return profiler_; }
  Arena& arena() { return *arena_; }
  // What its ops run with.
  Context& context() { return ctx_; }
  // Waits until the device has done all that was asked of it.
  void Synchronize() { stream_->Synchronize(); }
  int64_t tokens_per_step() const { return tokens_per_step_; }
  // In how many chunks rows travel.
  const ChunkTrial& chunk_trial() const { return chunk_trial_; }

 private:
  struct Settings {
    int64_t steps;
    config::Eval eval;
    double clip_norm;
  };

  // After a step that wants to go back.
  struct RewindDue {
    int64_t next_data_step;  // behind the bad one
    int64_t rewinds;         // before this one
  };

  Trainer(const config::Run& run, const Corpus& corpus, World& world);
  absl::Status CreateLoaders(const config::Run& run);
  absl::Status CreateOnDevice(const config::Run& run);
  // Step `window` of the loader. Collective.
  absl::StatusOr<std::optional<Validation>> Evaluate(BatchLoader& loader, int64_t window,
                                                     absl::string_view name);
  absl::Status TrainMicroBatches();
  absl::Status SumOverRanks(const absl::Status& mine, LossSums::Values* losses);
  absl::Status Diverged(double loss, double norm);
  absl::Status WantRewind();
  absl::Status BadEvaluation(absl::string_view name, double loss);
  std::string DivergedText(int64_t step) const;
  void GoToData();
  void TryChunks(double seconds);
  void Update(double norm, double lr);
  void SkipUpdate();
  void DropGradients();
  FiniteCheck RunChecked();
  double GradScale(double norm) const;
  absl::StatusOr<StepRecord> TimedStep();
  absl::Status ValidateInto(StepRecord* record);
  bool WantsStop() const { return wants_stop_ != nullptr && wants_stop_(); }
  bool AgreeToStop();

  const std::unique_ptr<const config::Run> run_;
  const Corpus& corpus_;
  World& world_;
  GradientReducer reducer_;
  Settings settings_{};
  Schedule schedule_{};
  int64_t tokens_per_step_ = 0;
  ParameterList parameters_;
  std::unique_ptr<Transformer> model_;
  Transformer::Saved saved_;
  LossSums sums_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<DivergenceGuard> guard_;
  ChunkTrial chunk_trial_{1, 1};
  std::unique_ptr<Tokenizer> tokenizer_;
  std::vector<std::unique_ptr<SampleSource>> sources_;  // the loaders borrow them
  std::unique_ptr<BatchLoader> train_;
  std::unique_ptr<BatchLoader> validation_;
  std::unique_ptr<BatchLoader> test_;  // null unless eval.test
  DeviceBatch batch_;
  std::vector<float> losses_;  // of a validation's batch
  std::unique_ptr<Stream> stream_;
  std::unique_ptr<Arena> arena_;
  Profiler profiler_;
  Context ctx_;
  int64_t step_ = 0;
  int64_t rewound_steps_ = 0;
  std::optional<RewindDue> rewind_due_;
  bool validation_due_ = true;  // of the weights as they are
  std::function<bool()> wants_stop_;
  bool stopped_ = false;  // agreed
  int64_t resumed_from_ = -1;
  bool changed_ = true;
  int64_t stop_after_ = std::numeric_limits<int64_t>::max();
};

}  // namespace unipool
