#include "launch/train/trainer.h"

#include <glog/logging.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/run.pb.h"
#include "launch/config/run_tokenizer.h"
#include "launch/world/step_memory.h"
#include "model/footprint.h"
#include "model/precision.h"
#include "runtime/build_config.h"
#include "runtime/clock.h"
#include "runtime/copy.h"
#include "runtime/device.h"
#include "runtime/finite_check.h"
#include "runtime/gpu.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/elementwise.h"
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

// Bytes of text behind the tokens; NaN without a tokenizer or where an id is not one of its.
double BytesOf(const Tokenizer* tokenizer, const Tensor& tokens) {
  if (tokenizer == nullptr) return std::numeric_limits<double>::quiet_NaN();
  double bytes = 0;
  for (int64_t t = 0; t < tokens.numel(); ++t) {
    const int32_t id = tokens.as<int32_t>()[t];
    bytes += id < tokenizer->vocab() ? tokenizer->NumBytes(id)
                                     : std::numeric_limits<double>::quiet_NaN();
  }
  return bytes;
}

// The most tokens that a rank has at a time, in training and in validations.
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
  self->settings_ = {
      .steps = run.steps(), .eval = run.eval(), .clip_norm = run.optimizer().clip_norm()};
  self->schedule_ = MakeSchedule(run.schedule());
  self->tokens_per_step_ = run.data().global_batch() * run.model().sequence();
  self->guard_ = std::make_unique<DivergenceGuard>(run.divergence());
  absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = OpenRunTokenizer(run);
  RETURN_IF_ERROR(world.Agree(tokenizer.status()));
  self->tokenizer_ = *std::move(tokenizer);
  RETURN_IF_ERROR(world.Agree(self->CreateLoaders(run)));
  RETURN_IF_ERROR(world.Agree(self->CreateOnDevice(run)));
  return self;
}

absl::Status Trainer::CreateOnDevice(const config::Run& run) {
  const Device device = world_.device();
  const MemoryPlan plan = PlanMemory(run, world_.size(), world_.rank(), device.type);
  RETURN_IF_ERROR(CheckMemory(plan, world_,
                              "expected fewer ranks a host, a smaller data.micro_batch or model"));
  ctx_.dtype = ActivationType(run, device.type);
  ASSIGN_OR_RETURN(model_, Transformer::Create(run, parameters_, world_.groups().expert(), device));
  RETURN_IF_ERROR(parameters_.Allocate(device, world_.size(), ctx_.dtype));
  parameters_.Initialize(run.seed());
  saved_ = model_->NewSaved();
  chunk_trial_ = ChunkTrial(run.parallel().exchange_chunks(), model_->max_exchange_chunks());
  ASSIGN_OR_RETURN(sums_, LossSums::Create(device));
  ASSIGN_OR_RETURN(optimizer_,
                   Optimizer::Create(parameters_, reducer_, MakeAdamW(run.optimizer())));
  ASSIGN_OR_RETURN(batch_, DeviceBatch::Create(device, MaxTokens(run, world_.size())));
  stream_ = Stream::Create(device);
  ASSIGN_OR_RETURN(Arena arena, ReserveArena(world_, plan.activations));
  arena_ = std::make_unique<Arena>(std::move(arena));
  if constexpr (kWithCuda) {
    if (device != Device{}) profiler_.set_device_clock(CreateGpuClock(*stream_));
  }
  profiler_.set_enabled(run.profile().enabled());
  ctx_.stream = stream_.get();
  ctx_.arena = arena_.get();
  ctx_.profiler = &profiler_;
  ctx_.progress = &world_.progress();
  parameters_.RoundWeights(ctx_);
  return absl::OkStatus();
}

absl::Status Trainer::CreateLoaders(const config::Run& run) {
  ASSIGN_OR_RETURN(Loaders loaders,
                   unipool::CreateLoaders(run, corpus_, world_.rank(), world_.size()));
  sources_ = std::move(loaders.sources);
  train_ = std::move(loaders.train);
  validation_ = std::move(loaders.validation);
  test_ = std::move(loaders.test);
  return absl::OkStatus();
}

absl::Status Trainer::Run(const Report& report) {
  if (validation_due_) {
    StepRecord before;
    before.step = step_;
    before.tokens = step_ * tokens_per_step_;
    before.has_training = false;
    RETURN_IF_ERROR(ValidateInto(&before));
    if (before.validation.has_value()) RETURN_IF_ERROR(report(before));
  }
  while (step_ < std::min(settings_.steps, stop_after_) && !stopped_) {
    ASSIGN_OR_RETURN(StepRecord record, TimedStep());
    const int64_t every = settings_.eval.every_steps();
    validation_due_ = (every > 0 && step_ % every == 0) || step_ == settings_.steps;
    if (validation_due_) RETURN_IF_ERROR(ValidateInto(&record));
    RETURN_IF_ERROR(report(record));
  }
  return absl::OkStatus();
}

absl::Status Trainer::ValidateInto(StepRecord* record) {
  if (stopped_) return absl::OkStatus();  // the run that goes on does it
  const Progress::Work work(world_.progress());
  ASSIGN_OR_RETURN(record->validation, Validate());
  if (record->validation.has_value() && test_ != nullptr && step_ == settings_.steps) {
    ASSIGN_OR_RETURN(record->test, Evaluate(*test_, 0, "test"));
    if (!record->test.has_value()) record->validation.reset();  // both once more
  }
  validation_due_ = !record->validation.has_value();
  changed_ = true;
  return absl::OkStatus();
}

TrainingState Trainer::state() {
  return {.run = *run_,
          .step = step_,
          .validation_due = validation_due_,
          .rewound_steps = rewound_steps_,
          .datasets = corpus_.identities(),
          .divergence = guard_->state(),
          .parameters = parameters_,
          .optimizer = *optimizer_,
          .model = *model_,
          .stream = *stream_};
}

absl::Status Trainer::Restore(const Checkpoint& checkpoint) {
  RETURN_IF_ERROR(LoadState(checkpoint, state(), world_));
  parameters_.RoundWeights(ctx_);
  step_ = resumed_from_ = checkpoint.step();
  validation_due_ = checkpoint.manifest().validation_due() ||
                    (step_ == settings_.steps && checkpoint.manifest().run().steps() != step_);
  rewound_steps_ = checkpoint.manifest().data().rewound_steps();
  const config::Manifest::Divergence& judged = checkpoint.manifest().divergence();
  guard_->Restore({.losses = {judged.losses().begin(), judged.losses().end()},
                   .norms = {judged.norms().begin(), judged.norms().end()},
                   .skipped_in_a_row = judged.skipped_in_a_row(),
                   .skipped = judged.skipped(),
                   .rewinds = judged.rewinds()});
  if (rewind_due_.has_value()) {
    guard_->CountRewind(rewind_due_->rewinds);
    rewound_steps_ = rewind_due_->next_data_step - step_;
    rewind_due_.reset();
  }
  GoToData();
  changed_ = false;
  return absl::OkStatus();
}

void Trainer::GoToData() {
  train_->Seek(step_);
  train_->SkipTo(run_->data().skip_steps() + rewound_steps_);
}

absl::StatusOr<StepRecord> Trainer::TimedStep() {
  const Progress::Work work(world_.progress());
  const auto start = std::chrono::steady_clock::now();
  ASSIGN_OR_RETURN(StepRecord record, Step());
  if (profiler_.enabled()) profiler_.Entries();  // or a device's marks would pile up
  record.step_seconds = SecondsSince(start);
  record.tokens_per_second = static_cast<double>(tokens_per_step_) / record.step_seconds;
  return record;
}

absl::StatusOr<StepRecord> Trainer::Step() {
  const Tensor dense_grads = parameters_.grads(ParameterKind::kReplicated);
  const Tensor expert_grads = parameters_.grads(ParameterKind::kExpert);
  LossSums::Values losses;
  ctx_.progress->SetStep(step_ + 1);
  model_->exchange().ReadAndClearExposedSeconds();  // what a validation left there
  const auto start = std::chrono::steady_clock::now();
  model_->StartStep(ctx_, tokens_per_step_);
  RETURN_IF_ERROR(SumOverRanks(TrainMicroBatches(), &losses));
  double slowest[] = {model_->exchange().ReadAndClearExposedSeconds(), SecondsSince(start)};
  world_.groups().world().AllReduce(Tensor::Of(slowest, {2}), ReduceOp::kMax, *stream_);
  TryChunks(slowest[1]);
  SetProgress(ctx_, "gradients");
  reducer_.Reduce(ctx_, dense_grads, expert_grads);
  const double norm = reducer_.GlobalNorm(ctx_, dense_grads, expert_grads);
  const double loss = losses.cross_entropy + losses.pool_balance + losses.layer_balance;
  const double lr = schedule_.Rate(step_ + 1);
  const DivergenceGuard::Verdict verdict = guard_->Judge(loss, norm);
  if (verdict == DivergenceGuard::Verdict::kStop) return Diverged(loss, norm);
  if (verdict == DivergenceGuard::Verdict::kRewind) return WantRewind();
  if (verdict == DivergenceGuard::Verdict::kSkip) SkipUpdate();
  if (verdict == DivergenceGuard::Verdict::kSound) Update(norm, lr);
  ++step_;
  changed_ = true;

  StepRecord record;
  record.step = step_;
  record.tokens = step_ * tokens_per_step_;
  record.lm_loss = losses.cross_entropy;
  record.pool_loss = losses.pool_balance;
  record.layer_aux_loss = losses.layer_balance;
  record.grad_norm = norm;
  record.lr = lr;
  record.exposed_comm_seconds = slowest[0];
  record.layer_imbalance = model_->statistics().LayerImbalance();
  record.pool_imbalance = model_->statistics().PoolImbalance();
  record.skipped_updates = guard_->state().skipped;
  record.rewinds = guard_->state().rewinds;
  record.unrouted_share = static_cast<double>(model_->statistics().previous_unrouted()) /
                          static_cast<double>(tokens_per_step_ * model_->num_layers());
  return record;
}

void Trainer::TryChunks(double seconds) {
  if (chunk_trial_.settled()) return;
  chunk_trial_.Note(seconds);
  model_->SetExchangeChunks(chunk_trial_.chunks());
  LOG_IF(INFO, chunk_trial_.settled() && world_.is_first())
      << "exchange in chunks: " << chunk_trial_.ToString();
}

void Trainer::Update(double norm, double lr) {
  SetProgress(ctx_, "update");
  model_->FinishStep(ctx_, world_.groups().world());
  optimizer_->Step(ctx_, step_ + 1, lr, GradScale(norm));
  if (world_.size() == 1) return;  // the optimizer has written all values and weights
  reducer_.GatherDense(ctx_, parameters_.values(ParameterKind::kReplicated));
  parameters_.RoundWeights(ctx_, ParameterKind::kReplicated);
}

// As if the batch had never been, but for comm/load_statistics.h's previous micro-batch.
void Trainer::SkipUpdate() {
  LOG_IF(WARNING, world_.is_first())
      << "step " << step_ + 1 << ": update skipped, " << guard_->state().skipped_in_a_row
      << " in a row: " << guard_->reason();
  DropGradients();
  model_->statistics().DropStep(ctx_);
}

absl::Status Trainer::WantRewind() {
  DropGradients();
  rewind_due_ = {.next_data_step = step_ + rewound_steps_ + 1, .rewinds = rewinds()};
  return absl::AbortedError(absl::StrCat("diverged at step ", step_ + 1, ": ", guard_->reason()));
}

void Trainer::DropGradients() {
  for (const auto kind : {ParameterKind::kReplicated, ParameterKind::kExpert}) {
    Compute(ctx_, Fill{.x = parameters_.grads(kind), .value = 0});
  }
}

// A rank whose data fail goes on with empty batches, so that no other rank waits for it; all learn
// of it together with the sums.
absl::Status Trainer::TrainMicroBatches() {
  sums_.Clear(ctx_);
  for (int i = 0; i < train_->num_micro_steps(); ++i) {
    SetProgress(ctx_, "reading data");
    const Batch& batch = train_->Next();
    const DeviceBatch::Ids ids = batch_.Bring(batch, *stream_);
    model_->TrainMicroBatch(ctx_, {.tokens = ids.tokens, .targets = ids.targets}, saved_, sums_);
  }
  SetProgress(ctx_, "losses");
  return train_->status();
}

absl::Status Trainer::SumOverRanks(const absl::Status& mine, LossSums::Values* losses) {
  const LossSums::Values own = sums_.Read(*stream_);
  double values[] = {own.cross_entropy, own.pool_balance, own.layer_balance, mine.ok() ? 0.0 : 1.0,
                     WantsStop() ? 1.0 : 0.0};
  world_.groups().world().AllReduce(Tensor::Of(values, {5}), ReduceOp::kSum, *stream_);
  stopped_ = stopped_ || values[4] > 0;
  *losses = {.cross_entropy = values[0], .pool_balance = values[1], .layer_balance = values[2]};
  return values[3] == 0 ? absl::OkStatus() : world_.Agree(mine);
}

// model/method.md#gradient-norm.
double Trainer::GradScale(double norm) const {
  if (settings_.clip_norm == 0) return 1.0;
  return std::min(1.0, settings_.clip_norm / (norm + 1e-6));
}

std::string Trainer::DivergedText(int64_t step) const {
  const std::string after = rewinds() > 0 ? absl::StrCat(" after ", rewinds(), " rewinds") : "";
  return absl::StrCat("diverged at step ", step, after, ": ");
}

// To skip an update would not help: the weights are bad already.
absl::Status Trainer::BadEvaluation(absl::string_view name, double loss) {
  const std::string what = absl::StrCat("the ", name, " loss is ", loss);
  if (!guard_->MayRewind()) return absl::OutOfRangeError(DivergedText(step_) + what);
  rewind_due_ = {.next_data_step = step_ + rewound_steps_, .rewinds = rewinds()};
  return absl::AbortedError(absl::StrCat("diverged at step ", step_, ": ", what));
}

absl::Status Trainer::Diverged(double loss, double norm) {
  const std::string diverged = absl::StrCat(DivergedText(step_ + 1), guard_->reason());
  if (std::isfinite(loss) && std::isfinite(norm)) return absl::OutOfRangeError(diverged);
  const FiniteCheck check = RunChecked();
  // All ranks run the same ops in the same order; the one that met a bad tensor first tells of it.
  int64_t earliest = check.first.empty() ? std::numeric_limits<int64_t>::min() : -check.first_look;
  world_.groups().world().AllReduce(Tensor::Of(&earliest, {1}), ReduceOp::kMax, *stream_);
  const bool mine = !check.first.empty() && -check.first_look == earliest;
  const absl::Status found = absl::OutOfRangeError(
      absl::StrCat(diverged, "; first bad tensor: ", mine ? check.first : "none on a second run"));
  const absl::Status told = world_.Agree(mine ? found : absl::OkStatus());
  return told.ok() ? found : told;
}

// Runs the step again, from clear gradients, with weights and every op's outputs checked.
// Collective.
FiniteCheck Trainer::RunChecked() {
  FiniteCheck check;
  for (const Parameter& parameter : parameters_.parameters()) {
    const int64_t at = FirstNonFinite(parameter.value);
    if (at >= 0 && check.first.empty()) {
      check.first = absl::StrCat("weight ", parameter.name, ", element ", at);
    }
  }
  DropGradients();
  ctx_.finite_check = &check;
  train_->Seek(step_);
  model_->StartStep(ctx_, tokens_per_step_);
  const absl::Status status = TrainMicroBatches();
  LOG_IF(ERROR, !status.ok()) << status.message();
  ctx_.finite_check = nullptr;
  return check;
}

bool Trainer::AgreeToStop() {
  int32_t wants = WantsStop() ? 1 : 0;
  world_.groups().world().AllReduce(Tensor::Of(&wants, {1}), ReduceOp::kMax, *stream_);
  stopped_ = stopped_ || wants > 0;
  return stopped_;
}

absl::StatusOr<std::optional<Validation>> Trainer::Validate() {
  return Evaluate(*validation_, ValidationWindow(settings_.eval, step_), "validation");
}

absl::StatusOr<std::optional<Validation>> Trainer::Evaluate(BatchLoader& loader, int64_t window,
                                                            absl::string_view name) {
  double sums[] = {0, 0, 0};  // loss, tokens, bytes
  loader.Seek(window);
  for (int i = 0; i < loader.num_micro_steps(); ++i) {
    if (AgreeToStop()) return std::nullopt;
    SetProgress(ctx_, "reading data");
    const Batch& batch = loader.Next();
    ArenaScope scope(*arena_);
    const Tensor losses = arena_->New({batch.targets.numel()});
    const DeviceBatch::Ids ids = batch_.Bring(batch, *stream_);
    model_->Evaluate(ctx_,
                     {.tokens = ids.tokens, .targets = ids.targets, .results = {.losses = losses}},
                     saved_);
    losses_.resize(static_cast<size_t>(losses.numel()));
    ReadTensor(losses, losses_.data());
    for (const float loss : losses_) sums[0] += loss;
    sums[2] += BytesOf(tokenizer_.get(), batch.targets);
    sums[1] += static_cast<double>(losses.numel());
  }
  RETURN_IF_ERROR(world_.Agree(loader.status()));
  world_.groups().world().AllReduce(Tensor::Of(sums, {3}), ReduceOp::kSum, *stream_);
  Validation validation{.loss = sums[0] / sums[1], .bits_per_byte = std::nullopt};
  if (std::isfinite(sums[2])) validation.bits_per_byte = sums[0] / std::log(2.0) / sums[2];
  if (std::isfinite(validation.loss)) return validation;
  return BadEvaluation(name, validation.loss);
}

}  // namespace unipool
