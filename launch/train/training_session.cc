#include "launch/train/training_session.h"

#include <glog/logging.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "comm/host_name.h"
#include "configs/run.pb.h"
#include "launch/checkpoint/folder.h"
#include "launch/checkpoint/saver.h"
#include "launch/config/run_config.h"
#include "launch/train/console_report.h"
#include "launch/train/load_trace.h"
#include "launch/train/loaders.h"
#include "launch/train/resume.h"
#include "launch/train/run_events.h"
#include "launch/train/trainer.h"
#include "launch/world/device_choice.h"
#include "launch/world/signals.h"
#include "launch/world/time_limit.h"
#include "launch/world/version.h"
#include "model/footprint.h"
#include "runtime/clock.h"
#include "runtime/content_hash.h"
#include "runtime/json.h"
#include "runtime/quote.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr char kTimeLimit[] = "time limit";

// Time to write the checkpoint of this rank at the rate of a slow disk.
absl::Duration FirstSaveEstimate(const config::Run& run, const World& world) {
  constexpr double kBytesPerSecond = 100e6;
  const MemoryPlan plan = PlanMemory(run, world.size(), world.rank(), world.device().type);
  return absl::Seconds(static_cast<double>(plan.values + plan.moments) / kBytesPerSecond);
}

absl::StatusOr<std::unique_ptr<Trainer>> CreateTrainer(config::Run* run,
                                                       const TrainingRequest& request,
                                                       const Corpus& corpus, World& world) {
  const StartMode start = request.start;
  if (start == StartMode::kResume) {
    return ResumeTrainer(run, request.changed_fields, corpus, world);
  }
  absl::Status allowed;
  if (world.is_first()) allowed = CheckNewRun(RunFolder(run->run_dir()), start);
  RETURN_IF_ERROR(world.Agree(allowed));
  return NewTrainer(*run, corpus, world);
}

// The step of the last record in metrics.jsonl; 0 if there is none.
int64_t LastRecordedStep(const RunFolder& folder) {
  const Json record = LastJsonLine(folder.metrics());
  const Json* const step = record.Find("step");
  return step != nullptr && step->is_integer() ? step->integer() : 0;
}

// The error of a run that stopped on request.
absl::Status StoppedError(int64_t step, const std::string& reason, const std::string& checkpoint) {
  if (step == 0 && absl::StartsWith(reason, kTimeLimit)) {
    return absl::FailedPreconditionError(
        "the time limit is reached before the first step, and would be each time; set a longer "
        "--time-limit, or shorten the first validation (eval.sequences)");
  }
  return absl::CancelledError(absl::StrCat("stopped after step ", step, " (", reason, "); saved ",
                                           checkpoint, "; run the same command again to resume"));
}

// Owns what a run needs besides its ranks. Every rank has one; all public calls are collective.
class TrainingSession {
 public:
  TrainingSession(config::Run run, const TrainingRequest& request, World& world)
      : run_(std::move(run)), folder_(run_.run_dir()), request_(request), world_(world) {}

  // Creates everything that training needs.
  absl::Status Open();
  // Trains to the end, or until the run has to stop, and saves.
  absl::Status Train();
  // Records how Train ended.
  void RecordEnd(const absl::Status& status);

 private:
  void RecordStart(const std::vector<std::string>& hosts, int64_t last_step);
  void RecordChanges();
  void Report(const StepRecord& record);
  void WriteRecord(StepRecord record);
  void Save(const StepRecord& record);
  void SaveInitialWeights();
  absl::Status TrainWithRewinds();
  absl::Status Rewind(const absl::Status& diverged, int64_t max_step);
  absl::Status CutMetrics();
  bool WantsStop();
  std::string StopReason() const;

  config::Run run_;
  const RunFolder folder_;
  const TrainingRequest request_;
  World& world_;
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<Trainer> trainer_;
  RunOutputs outputs_;                      // empty except on the first rank
  std::unique_ptr<RunEvents> events_;       // null except on the first rank
  std::unique_ptr<ConsoleReport> console_;  // null except on the first rank
  std::unique_ptr<CheckpointSaver> saver_;
  double recorded_stall_seconds_ = 0;  // of saver_->totals(), in records so far
  TimeLimit limit_{absl::InfiniteFuture(), absl::ZeroDuration()};
  bool near_limit_ = false;
};

absl::Status TrainingSession::Open() {
  RETURN_IF_ERROR(CheckRanks(run_, world_.size()));
  absl::StatusOr<std::unique_ptr<Corpus>> corpus = Corpus::Open(run_.data());
  RETURN_IF_ERROR(world_.Agree(corpus.status()));
  corpus_ = *std::move(corpus);
  absl::StatusOr<std::unique_ptr<RunLock>> lock = nullptr;
  if (world_.is_first()) lock = LockExistingFolder(folder_);
  RETURN_IF_ERROR(world_.Agree(lock.status()));
  RETURN_IF_ERROR(world_.Agree(world_.is_first() ? CheckRunFolder(folder_) : absl::OkStatus()));
  ASSIGN_OR_RETURN(trainer_, CreateTrainer(&run_, request_, *corpus_, world_));
  const std::vector<std::string> hosts = world_.Gather(HostName());
  const int64_t last_step = world_.is_first() ? LastRecordedStep(folder_) : 0;
  absl::StatusOr<RunOutputs> outputs = RunOutputs{};
  if (world_.is_first()) {
    outputs = OpenRunOutputs(folder_, {.config_text = ToText(run_),
                                       .mode = request_.start,
                                       .resumed_from = trainer_->resumed_from(),
                                       .lock = *std::move(lock)});
  }
  RETURN_IF_ERROR(world_.Agree(outputs.status()));
  outputs_ = *std::move(outputs);
  FLAGS_timestamp_in_logfile_name = false;
  google::SetLogDestination(google::INFO, folder_.log(world_.rank(), HostName()).c_str());

  LOG(INFO) << "unipool " << VersionLine();
  LOG(INFO) << "computes on " << DescribeDevice(run_, world_.device());
  if (world_.is_first()) {
    RecordStart(hosts, last_step);
    RecordChanges();
    console_ = std::make_unique<ConsoleReport>(run_, world_, *trainer_);
    console_->PrintHeader();
    if (request_.has_noisy_constant) console_->PrintNoisyConstantWarning();
  }
  limit_ = TimeLimit(request_.end, FirstSaveEstimate(run_, world_));
  trainer_->StopAfter(request_.stop_after);
  trainer_->set_wants_stop([this] { return WantsStop(); });
  ASSIGN_OR_RETURN(saver_,
                   CheckpointSaver::Create(folder_.checkpoints(), run_.checkpoint(), world_));
  return absl::OkStatus();
}

void TrainingSession::RecordStart(const std::vector<std::string>& hosts, int64_t last_step) {
  events_ = std::make_unique<RunEvents>(folder_);
  const std::set<std::string> distinct(hosts.begin(), hosts.end());
  const int64_t resumed_from = trainer_->resumed_from();
  const int64_t lost = resumed_from < 0 ? 0 : std::max<int64_t>(0, last_step - resumed_from);
  events_->Add("start",
               {{"ranks", world_.size()},
                {"hosts", Json(std::vector<std::string>(distinct.begin(), distinct.end()))},
                {"device", DescribeDevice(run_, world_.device())},
                {"version", VersionLine()},
                {"config_xxh3_128", ContentHash::Of(ToText(run_))},
                {"steps", run_.steps()},
                {"resumed_from", resumed_from < 0 ? Json() : Json(resumed_from)},
                {"steps_lost", lost}});
}

void TrainingSession::RecordChanges() {
  for (const ConfigChange& change : trainer_->changes()) {
    if (change.step != trainer_->resumed_from()) continue;
    LOG(WARNING) << "from step " << change.step + 1 << " on, " << change.field << " is "
                 << change.value << ", before " << change.former;
    events_->Add("change", {{"step", change.step},
                            {"field", change.field},
                            {"former", change.former},
                            {"value", change.value}});
  }
}

void TrainingSession::RecordEnd(const absl::Status& status) {
  if (events_ == nullptr) return;
  const bool is_stopped =
      status.code() == absl::StatusCode::kCancelled || (status.ok() && !trainer_->finished());
  const char* name = is_stopped ? "stopped" : status.ok() ? "finished" : "failed";
  events_->Add(
      "end", {{"status", name}, {"step", trainer_->step()}, {"reason", OneLine(status.message())}});
}

absl::Status TrainingSession::Train() {
  absl::Status trained = TrainWithRewinds();
  if (!trained.ok()) {
    saver_->Settle();  // finishes a save in progress: its step is sound
    return trained;
  }
  std::string last_checkpoint;
  if ((run_.checkpoint().save_final() || !trainer_->finished()) && trainer_->changed()) {
    ASSIGN_OR_RETURN(last_checkpoint, saver_->SaveNow(trainer_->state()));
  }
  saver_->Settle();
  if (trainer_->stopped() && !trainer_->finished()) {
    return StoppedError(trainer_->step(), StopReason(),
                        CheckpointPath(folder_.checkpoints(), trainer_->step()));
  }
  if (world_.is_first()) console_->PrintSummary(saver_->totals(), last_checkpoint);
  return absl::OkStatus();
}

void TrainingSession::Report(const StepRecord& record) {
  limit_.AddStep(absl::Seconds(record.step_seconds));
  if (world_.is_first()) WriteRecord(record);
  Save(record);
}

// The record also gets what saves have cost since the last one.
void TrainingSession::WriteRecord(StepRecord record) {
  const bool is_empty = !record.has_training && EvaluationFields(record).empty();
  if (is_empty) return;  // the record of step 0 without a validation part
  const double stall_seconds = saver_->totals().stall_seconds;
  record.checkpoint_stall_seconds =
      stall_seconds - std::exchange(recorded_stall_seconds_, stall_seconds);
  record.checkpoint_gigabytes_per_second = saver_->gigabytes_per_second();
  const absl::Status written = outputs_.metrics->Write(record);
  LOG_IF_EVERY_N(WARNING, !written.ok(), 100) << written.message();
  console_->PrintRecord(record);
  if (!record.validation.has_value() || record.step == 0) return;
  const absl::Status traced =
      WriteLoads(folder_.loads(), record.step, trainer_->model().statistics());
  LOG_IF(WARNING, !traced.ok()) << traced.message();
}

void TrainingSession::Save(const StepRecord& record) {
  const SaveTotals before = saver_->totals();
  if (record.step == 0) SaveInitialWeights();
  saver_->AfterStep(trainer_->state());
  const SaveTotals& now = saver_->totals();
  if (events_ != nullptr && now.failures > before.failures) {
    events_->Add("save_failed", {{"step", record.step}});
  }
  if (now.saves == before.saves) return;
  if (events_ != nullptr) {
    events_->Add("save", {{"noticed_at_step", record.step},
                          {"seconds", (now.write_seconds - before.write_seconds) /
                                          static_cast<double>(now.saves - before.saves)}});
  }
  limit_.SetSave(absl::Seconds((now.write_seconds - before.write_seconds) /
                               static_cast<double>(now.saves - before.saves)));
}

// A run that diverges before its first save rewinds to this checkpoint. A failure is a warning.
void TrainingSession::SaveInitialWeights() {
  if (run_.divergence().action() != config::Divergence::REWIND) return;
  if (run_.checkpoint().every_steps() == 0) return;
  const absl::StatusOr<std::string> saved = saver_->SaveNow(trainer_->state());
  LOG_IF(WARNING, !saved.ok() && world_.is_first())
      << "saving the checkpoint of step 0 FAILED: " << saved.status().message()
      << "; training continues, the next try is after step 1";
}

// A checkpoint after which not one step was sound is bad itself: the next rewind takes an earlier
// one. The initial weights are never bad.
absl::Status TrainingSession::TrainWithRewinds() {
  constexpr int64_t kNewest = std::numeric_limits<int64_t>::max();
  int64_t rewound_to = -1;
  while (true) {
    absl::Status status = trainer_->Run([this](const StepRecord& record) {
      Report(record);
      return absl::OkStatus();
    });
    if (status.code() != absl::StatusCode::kAborted) return status;
    const bool is_bad = rewound_to > 0 && trainer_->bad_step() - 1 == rewound_to;
    RETURN_IF_ERROR(Rewind(status, is_bad ? rewound_to - 1 : kNewest));
    rewound_to = trainer_->step();
  }
}

// Restores the newest good checkpoint of a step up to `max_step`, after the error `diverged`.
absl::Status TrainingSession::Rewind(const absl::Status& diverged, int64_t max_step) {
  const int64_t bad_step = trainer_->bad_step();
  saver_->Settle();
  const absl::Status restored =
      RestoreNewest(*trainer_, run_, world_, std::min(max_step, bad_step - 1));
  if (!restored.ok()) {
    return absl::OutOfRangeError(
        absl::StrCat(diverged.message(), "; no checkpoint to rewind to: ", restored.message()));
  }
  saver_->Forget();
  absl::Status cut;
  if (world_.is_first()) {
    console_->PrintRewind(diverged.message(), bad_step);
    events_->Add(
        "rewind",
        {{"from", bad_step}, {"to", trainer_->step()}, {"reason", OneLine(diverged.message())}});
    cut = CutMetrics();
  }
  return world_.Agree(cut);
}

// Removes the records of steps that are trained again.
absl::Status TrainingSession::CutMetrics() {
  outputs_.metrics.reset();  // closes the file before it is rewritten
  ASSIGN_OR_RETURN(outputs_.metrics, MetricsFile::Resume(folder_.metrics(), trainer_->step()));
  return absl::OkStatus();
}

bool TrainingSession::WantsStop() {
  near_limit_ = near_limit_ || limit_.IsNear(SteadyNow());
  return near_limit_ || ReceivedSignal() != 0;
}

// Why the run stops, as the lowest rank with a reason states it. Collective.
std::string TrainingSession::StopReason() const {
  const int signal = ReceivedSignal();
  const std::string mine = signal != 0 ? SignalName(signal) : near_limit_ ? kTimeLimit : "";
  const std::vector<std::string> reasons = world_.Gather(mine);
  int rank = 0;
  while (rank + 1 < world_.size() && reasons[rank].empty()) ++rank;
  return rank == 0 ? reasons[rank] : absl::StrCat(reasons[rank], " on rank ", rank);
}

}  // namespace

absl::Status TrainRun(config::Run run, const TrainingRequest& request, World& world) {
  TrainingSession session(std::move(run), request, world);
  RETURN_IF_ERROR(session.Open());
  absl::Status status = session.Train();
  session.RecordEnd(status);
  return status;
}

}  // namespace unipool
