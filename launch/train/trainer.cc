#include "launch/train/trainer.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>

#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"
#include "launch/config/run_tokenizer.h"
#include "model/footprint.h"
#include "runtime/build_config.h"
#include "runtime/clock.h"
#include "runtime/device.h"
#include "runtime/gpu.h"
#include "runtime/status.h"

namespace unipool {
namespace {

Schedule MakeSchedule(const config::Schedule& schedule) {
  return {.lr = schedule.lr(),
          .min_lr = schedule.min_lr(),
          .warmup_steps = schedule.warmup_steps(),
          .decay_steps = schedule.decay_steps(),
          .lagging = schedule.convention() == config::Schedule::MEGATRON};
}

AdamWSettings MakeAdamW(const config::Optimizer& optimizer) {
  return {.beta1 = static_cast<float>(optimizer.beta1()),
          .beta2 = static_cast<float>(optimizer.beta2()),
          .eps = static_cast<float>(optimizer.eps()),
          .weight_decay = static_cast<float>(optimizer.weight_decay())};
}

// The largest number of tokens that a rank has in one batch, in training and in evaluations.
int64_t MaxTokens(const config::Run& run, int ranks) {
  const int64_t share = (run.data().global_batch() + ranks - 1) / ranks;
  const int64_t sequences = run.data().micro_batch() == 0 ? share : run.data().micro_batch();
  return sequences * run.model().sequence();
}

}  // namespace

Trainer::Trainer(const config::Run& run, const Corpus& corpus, World& world)
    : run_(std::make_unique<config::Run>(run)),
      corpus_(corpus),
      world_(world),
      reducer_(world.groups()) {}

Trainer::~Trainer() = default;

absl::StatusOr<std::unique_ptr<Trainer>> Trainer::Create(const config::Run& run,
                                                         const Corpus& corpus, World& world) {
  auto self = std::unique_ptr<Trainer>(new Trainer(run, corpus, world));
  self->settings_ = {.steps = run.steps(), .clip_norm = run.optimizer().clip_norm()};
  self->schedule_ = MakeSchedule(run.schedule());
  self->tokens_per_step_ = run.data().global_batch() * run.model().sequence();
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = OpenRunTokenizer(run);
  RETURN_IF_ERROR(world.Agree(tokenizer.status()));
  RETURN_IF_ERROR(self->UseOrder(kOrderVersion));
  RETURN_IF_ERROR(world.Agree(self->CreateOnDevice(run)));
  self->recovery_ = std::make_unique<Recovery>(run.divergence(), *self->on_device_, world);
  self->evaluator_ = std::make_unique<Evaluator>(
      Evaluator::Parts{world, *self->on_device_, self->batch_, self->stop_}, *std::move(tokenizer));
  return self;
}

// Creates the loaders of the data. Collective.
absl::Status Trainer::UseOrder(int version) {
  absl::StatusOr<Loaders> loaders =
      CreateLoaders(*run_, corpus_, world_.rank(), world_.size(), version);
  RETURN_IF_ERROR(world_.Agree(loaders.status()));
  // Destroyed as a whole, because the threads of its loaders read its sources.
  const Loaders former = std::exchange(loaders_, *std::move(loaders));
  order_version_ = version;
  return absl::OkStatus();
}

absl::Status Trainer::CreateOnDevice(const config::Run& run) {
  const Device device = world_.device();
  const MemoryPlan plan = PlanMemory(run, world_.size(), world_.rank(), device.type);
  ASSIGN_OR_RETURN(on_device_,
                   ModelOnDevice::Create(run, plan,
                                         "use fewer ranks per host, a smaller data.micro_batch or "
                                         "a smaller model",
                                         world_));
  chunk_trial_ = ChunkTrial(run.parallel().exchange_chunks(), model().max_exchange_chunks());
  ASSIGN_OR_RETURN(sums_, LossSums::Create(device));
  ASSIGN_OR_RETURN(optimizer_,
                   Optimizer::Create(parameters(), reducer_, MakeAdamW(run.optimizer())));
  ASSIGN_OR_RETURN(batch_, DeviceBatch::Create(device, MaxTokens(run, world_.size())));
  if constexpr (kWithCuda) {
    if (device != Device{}) profiler_.set_device_clock(CreateGpuClock(on_device_->stream()));
  }
  profiler_.set_enabled(run.profile().enabled());
  context().profiler = &profiler_;
  context().progress = &world_.progress();
  return on_device_->ReserveActivations();
}

absl::Status Trainer::Run(const Report& report) {
  if (validation_due_) {
    StepRecord before;
    before.step = step_;
    before.tokens = step_ * tokens_per_step_;
    before.has_training = false;
    RETURN_IF_ERROR(EvaluateInto(&before));
    if (!validation_due_) RETURN_IF_ERROR(report(before));
  }
  while (step_ < std::min(settings_.steps, stop_after_) && !stopped()) {
    ASSIGN_OR_RETURN(StepRecord record, TimedStep());
    const int64_t every = run_->eval().every_steps();
    validation_due_ = (every > 0 && step_ % every == 0) || step_ == settings_.steps;
    if (validation_due_) RETURN_IF_ERROR(EvaluateInto(&record));
    RETURN_IF_ERROR(report(record));
  }
  return absl::OkStatus();
}

absl::StatusOr<StepRecord> Trainer::TimedStep() {
  const Progress::Work work(world_.progress());
  const auto start = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(StepRecord record, Step());
  if (profiler_.enabled()) profiler_.Entries();  // collects a device's events before they pile up
  record.step_seconds = SecondsSince(start);
  record.tokens_per_second = static_cast<double>(tokens_per_step_) / record.step_seconds;
  return record;
}

absl::StatusOr<StepRecord> Trainer::Step() {
  StepResult result{.step = step_ + 1,
                    .tokens_per_step = tokens_per_step_,
                    .num_layers = model().num_layers(),
                    .losses = {}};
  RETURN_IF_ERROR(RunMicroBatches(&result));
  result.grad_norm = ReduceGradients();
  result.lr = schedule_.Rate(result.step);
  ASSIGN_OR_RETURN(const Recovery::Action action,
                   recovery_->Judge(result, [this] { return RerunStep(); }));
  if (action == Recovery::Action::kUpdate) Update(result);
  step_ = result.step;
  changed_ = true;
  return MakeStepRecord(result, model().statistics(), recovery_->state());
}

// Computes gradients from all micro-batches, and sums the losses over all ranks.
absl::Status Trainer::RunMicroBatches(StepResult* result) {
  context().progress->SetStep(result->step);
  model().exchange().ReadAndClearExposedSeconds();  // resets it: an evaluation has added to it
  const auto start = std::chrono::steady_clock::now();
  model().StartStep(context(), tokens_per_step_);
  RETURN_IF_ERROR(SumOverRanks(ForwardBackward(), &result->losses));
  double slowest[] = {model().exchange().ReadAndClearExposedSeconds(), SecondsSince(start)};
  world_.groups().world().AllReduce(Tensor::Of(slowest, {2}), ReduceOp::kMax, on_device_->stream());
  result->exposed_comm_seconds = slowest[0];
  TryChunks(slowest[1]);
  return absl::OkStatus();
}

// If this rank cannot read its data, it continues with empty batches so that no other rank waits
// for it. All ranks get the error with the sums of the losses.
absl::Status Trainer::ForwardBackward() {
  sums_.Clear(context());
  for (int i = 0; i < loaders_.train->num_micro_steps(); ++i) {
    SetProgress(context(), "reading data");
    const Batch& batch = loaders_.train->Next();
    const DeviceBatch::Ids ids = batch_.CopyToDevice(batch, on_device_->stream());
    model().TrainMicroBatch(context(), {.tokens = ids.tokens, .targets = ids.targets},
                            on_device_->saved(), sums_);
  }
  SetProgress(context(), "losses");
  return loaders_.train->status();
}

absl::Status Trainer::SumOverRanks(const absl::Status& mine, LossSums::Values* losses) {
  const LossSums::Values own = sums_.Read(on_device_->stream());
  double values[] = {own.cross_entropy, own.pool_balance, own.layer_balance, mine.ok() ? 0.0 : 1.0,
                     stop_.Vote()};
  world_.groups().world().AllReduce(Tensor::Of(values, {5}), ReduceOp::kSum, on_device_->stream());
  stop_.Count(values[4]);
  *losses = {.cross_entropy = values[0], .pool_balance = values[1], .layer_balance = values[2]};
  return values[3] == 0 ? absl::OkStatus() : world_.Agree(mine);
}

// Returns the norm over all gradients.
double Trainer::ReduceGradients() {
  const Tensor dense_grads = parameters().grads(ParameterKind::kReplicated);
  const Tensor expert_grads = parameters().grads(ParameterKind::kExpert);
  SetProgress(context(), "gradients");
  reducer_.Reduce(context(), dense_grads, expert_grads);
  return reducer_.GlobalNorm(context(), dense_grads, expert_grads);
}

void Trainer::Update(const StepResult& result) {
  SetProgress(context(), "update");
  model().FinishStep(context(), world_.groups().world());
  optimizer_->Step(context(), result.step, result.lr, GradScale(result.grad_norm));
  if (world_.size() == 1) return;  // the optimizer has written all values and weights
  reducer_.GatherDense(context(), parameters().values(ParameterKind::kReplicated));
  parameters().RoundWeights(context(), ParameterKind::kReplicated);
}

// model/method.md#gradient-norm.
double Trainer::GradScale(double norm) const {
  if (settings_.clip_norm == 0) return 1.0;
  return std::min(1.0, settings_.clip_norm / (norm + 1e-6));
}

absl::Status Trainer::RerunStep() {
  loaders_.train->Seek(step_);
  model().StartStep(context(), tokens_per_step_);
  return ForwardBackward();
}

void Trainer::TryChunks(double seconds) {
  if (chunk_trial_.settled()) return;
  chunk_trial_.AddStep(seconds);
  model().SetExchangeChunks(chunk_trial_.chunks());
  LOG_IF(INFO, chunk_trial_.settled() && world_.is_first())
      << "all-to-all chunks: " << chunk_trial_.ToString();
}

absl::Status Trainer::EvaluateInto(StepRecord* record) {
  if (stopped()) return absl::OkStatus();  // the resumed run does it
  const Progress::Work work(world_.progress());
  ASSIGN_OR_RETURN(const bool complete, EvaluateParts(record));
  validation_due_ = !complete;
  changed_ = true;
  return absl::OkStatus();
}

// False if the ranks agree to stop meanwhile. Then the record has no evaluation, because the
// resumed run does all of them.
absl::StatusOr<bool> Trainer::EvaluateParts(StepRecord* record) {
  if (loaders_.validation != nullptr) {
    ASSIGN_OR_RETURN(record->validation, Validate());
    if (!record->validation.has_value()) return false;
  }
  if (loaders_.test == nullptr || step_ != settings_.steps) return true;
  ASSIGN_OR_RETURN(record->test, Evaluate(*loaders_.test, 0, "test"));
  if (!record->test.has_value()) record->validation.reset();
  return record->test.has_value();
}

absl::StatusOr<std::optional<Validation>> Trainer::Validate() {
  CHECK(loaders_.validation != nullptr) << "data.split has no validation part";
  return Evaluate(*loaders_.validation, ValidationWindow(run_->eval(), step_), "validation");
}

absl::StatusOr<std::optional<Validation>> Trainer::Evaluate(BatchLoader& loader, int64_t window,
                                                            absl::string_view part) {
  ASSIGN_OR_RETURN(const std::optional<Validation> result, evaluator_->Evaluate(loader, window));
  if (result.has_value()) RETURN_IF_ERROR(recovery_->JudgeEvaluation(step_, part, result->loss));
  return result;
}

TrainingState Trainer::state() {
  return {.run = *run_,
          .step = step_,
          .validation_due = validation_due_,
          .rewound_steps = recovery_->rewound_steps(),
          .order_version = order_version_,
          .changes = changes_,
          .datasets = corpus_.identities(),
          .divergence = recovery_->state(),
          .parameters = parameters(),
          .optimizer = *optimizer_,
          .model = model(),
          .stream = on_device_->stream()};
}

absl::Status Trainer::Restore(const Checkpoint& checkpoint) {
  RETURN_IF_ERROR(LoadState(checkpoint, state(), world_));
  parameters().RoundWeights(context());
  const int version = OrderVersion(run_->data(), checkpoint.manifest().data().order_version());
  if (version != order_version_) RETURN_IF_ERROR(UseOrder(version));
  step_ = resumed_from_ = checkpoint.step();
  validation_due_ = checkpoint.manifest().validation_due() ||
                    (step_ == settings_.steps && checkpoint.manifest().run().steps() != step_);
  recovery_->Restore(checkpoint);
  loaders_.train->Seek(step_);
  loaders_.train->SkipTo(run_->data().skip_steps() + recovery_->rewound_steps());
  changed_ = false;
  return absl::OkStatus();
}

}  // namespace unipool
