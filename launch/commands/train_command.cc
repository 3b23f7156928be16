// `unipool train`: from a config to a trained model in a run folder.
#include <glog/logging.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "launch/checkpoint/folder.h"
#include "launch/checkpoint/saver.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/run_flags.h"
#include "launch/config/run_config.h"
#include "launch/train/load_trace.h"
#include "launch/train/loaders.h"
#include "launch/train/metrics.h"
#include "launch/train/resume.h"
#include "launch/train/run_lock.h"
#include "launch/train/trainer.h"
#include "launch/world/device_choice.h"
#include "launch/world/exit_codes.h"
#include "launch/world/signals.h"
#include "launch/world/time_limit.h"
#include "launch/world/version.h"
#include "launch/world/world.h"
#include "model/footprint.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

const CommandSpec kSpec{
    .flags = {{"config", "FILE", "textproto of the run"},
              {"set", "FIELD=VALUE", "overrides a field, as in model.layers=4", true},
              DeviceFlag(),
              {"threads", "N", "CPU threads of each rank (parallel.threads); else OMP_NUM_THREADS"},
              {"run-dir", "FOLDER", "where the run is written (run_dir)"},
              {"stop-after", "N", "saves and leaves after step N; 0 saves the initial weights"},
              {"time-limit", "TIME", "saves and leaves in time (status 75): 3h50m, 1-02:00:00"},
              {"fresh", "", "starts anew, where the folder holds no run yet"},
              {"force", "", "starts anew, in place of a run that the folder already holds"},
              {"help", "", "prints this"}}};

// What the command line asks for beside the config.
struct Request {
  bool fresh = false;          // without a look at checkpoints
  bool force = false;          // replaces a run
  bool poor_constant = false;  // the router's c is estimated, for too few experts
  int64_t stop_after = std::numeric_limits<int64_t>::max();
  absl::Time end = absl::InfiniteFuture();  // of the time that the run may take
};

// What one rank keeps open while it trains; only the first rank has files and a terminal.
struct Outputs {
  std::unique_ptr<RunLock> lock;
  std::unique_ptr<MetricsFile> metrics;
  std::unique_ptr<ProgressLine> progress;
};

// Where the records go: behind those up to the step that is resumed from. Records of a run that
// never came to a checkpoint (resumed_from -1) are kept under another name.
absl::StatusOr<std::unique_ptr<MetricsFile>> OpenMetrics(const std::string& path,
                                                         const Request& request,
                                                         int64_t resumed_from) {
  if (resumed_from >= 0) return MetricsFile::Continue(path, resumed_from);
  ASSIGN_OR_RETURN(const bool is_there, Exists(path));
  if (is_there && resumed_from < 0 && !request.force) {
    LOG(WARNING) << path << ": of a run without a checkpoint; kept as " << path << ".old";
    RETURN_IF_ERROR(Rename(path, path + ".old"));
  }
  return MetricsFile::Create(path);
}

absl::StatusOr<Outputs> FillRunFolder(const config::Run& run, const Request& request,
                                      int64_t resumed_from) {
  const std::string& folder = run.run_dir();
  Outputs outputs;
  RETURN_IF_ERROR(MakeFolders(folder));
  for (const char* part : {"/checkpoints", "/loads"}) {
    if (request.force) RETURN_IF_ERROR(RemoveTree(folder + part));
  }
  RETURN_IF_ERROR(WriteFileAtomically(folder + "/config.textproto", ToText(run)));
  ASSIGN_OR_RETURN(outputs.metrics, OpenMetrics(folder + "/metrics.jsonl", request, resumed_from));
  RETURN_IF_ERROR(MakeFolders(folder + "/log"));
  RETURN_IF_ERROR(MakeFolders(folder + "/checkpoints"));
  outputs.progress = std::make_unique<ProgressLine>(run.steps(), OutputIsTerminal());
  return outputs;
}

// True where launch/mpirun.sh starts the run again: it goes on, whatever it replaced at first.
bool IsRestart() {
  const char* restart = std::getenv("UNIPOOL_RESTART");
  return restart != nullptr && absl::string_view(restart) != "0";
}

// A start again may come before the system knows that the last one is gone, on another machine too.
absl::StatusOr<std::unique_ptr<RunLock>> LockFolder(const std::string& folder) {
  const char* const requeued = std::getenv("SLURM_RESTART_COUNT");
  const bool again = IsRestart() || (requeued != nullptr && absl::string_view(requeued) != "0");
  return RunLock::Take(folder, again ? absl::Seconds(120) : absl::Seconds(5));
}

// Null where there is no folder yet.
absl::StatusOr<std::unique_ptr<RunLock>> LockIfThere(const std::string& folder) {
  ASSIGN_OR_RETURN(const bool is_there, Exists(folder));
  if (!is_there) return nullptr;
  return LockFolder(folder);
}

// The run folder. A new one that cannot be filled is taken away again.
absl::StatusOr<Outputs> OpenOutputs(const config::Run& run, const Request& request,
                                    int64_t resumed_from, std::unique_ptr<RunLock> lock) {
  const bool existed = lock != nullptr;
  if (!existed) {
    RETURN_IF_ERROR(MakeFolders(run.run_dir()));
    ASSIGN_OR_RETURN(lock, LockFolder(run.run_dir()));
    ASSIGN_OR_RETURN(const bool is_run, Exists(run.run_dir() + "/config.textproto"));
    if (is_run) {
      return absl::FailedPreconditionError(
          absl::StrCat(run.run_dir(), ": another run has been made in it just now"));
    }
  }
  absl::StatusOr<Outputs> outputs = FillRunFolder(run, request, resumed_from);
  if (outputs.ok()) outputs->lock = std::move(lock);
  if (!outputs.ok() && !existed) RemoveTree(run.run_dir()).IgnoreError();
  return outputs;
}

// A new run takes no other one's place unasked, and never that of something else.
absl::Status CheckFresh(const config::Run& run, const Request& request) {
  ASSIGN_OR_RETURN(const bool is_run, Exists(run.run_dir() + "/config.textproto"));
  for (const char* name : {"loads", "checkpoints"}) {
    ASSIGN_OR_RETURN(const bool is_there, Exists(absl::StrCat(run.run_dir(), "/", name)));
    if (!is_there || is_run || !request.force) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(run.run_dir(), ": holds ", name, " but no run (config.textproto), so nothing ",
                     "is replaced; expected a new folder (--run-dir)"));
  }
  for (const char* name : {"metrics.jsonl", "checkpoints"}) {
    ASSIGN_OR_RETURN(const bool is_there, Exists(absl::StrCat(run.run_dir(), "/", name)));
    if (!is_there || !request.fresh || request.force) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(run.run_dir(), ": already holds a run (", name,
                     "); expected a new folder (--run-dir), or --force to replace it"));
  }
  return absl::OkStatus();
}

std::string ValidationText(const Validation& validation) {
  std::string text = absl::StrFormat("validation loss %.4f  perplexity %.3f", validation.loss,
                                     validation.perplexity());
  if (validation.bits_per_byte.has_value()) {
    absl::StrAppendFormat(&text, "  bits/byte %.4f", *validation.bits_per_byte);
  }
  return text;
}

// model/method.md#router-constant: with few experts the mean that c estimates is ruled by rare
// draws.
bool EstimatesPoorly(const config::Run& run) {
  constexpr int64_t kFewExperts = 16;
  return run.model().ffn_kind() == config::Model::MOE &&
         run.pool().router() == config::Pool::NORM && run.pool().router_c() == 0 &&
         run.pool().experts() <= kFewExperts;
}

void Introduce(const config::Run& run, const Request& request, const World& world,
               const Trainer& trainer, ProgressLine& progress) {
  if (trainer.resumed_from() >= 0) {
    progress.Say(absl::StrFormat("goes on after step %d of %d (%s)", trainer.step(), run.steps(),
                                 CheckpointPath(run.run_dir() + "/checkpoints", trainer.step())));
  }
  progress.Say(absl::StrFormat(
      "%.2f M parameters (%.2f M active), %d %s, %d sequences of %d tokens a step",
      CountParameters(run).total() / 1e6, ActiveParameters(run) / 1e6, world.size(),
      world.size() == 1 ? "rank" : "ranks", run.data().global_batch(), run.model().sequence()));
  progress.Say(absl::StrCat("computes on ", DescribeDevice(run, world.device())));
  if (request.poor_constant) {
    progress.Say(absl::StrFormat(
        "note: the router's constant c is a poor estimate for %d experts; pool.router_c states it",
        run.pool().experts()));
  }
}

void Tell(const StepRecord& record, Outputs& outputs) {
  const absl::Status written = outputs.metrics->Write(record);
  LOG_IF_EVERY_N(WARNING, !written.ok(), 100) << written.message();
  LOG(INFO) << ToJson(record);
  if (record.step > 0 && record.has_training) outputs.progress->Show(record);
  if (record.validation.has_value()) {
    outputs.progress->Say(
        absl::StrFormat("step %d  %s", record.step, ValidationText(*record.validation)));
  }
  if (record.test.has_value()) {
    outputs.progress->Say(absl::StrFormat("test loss %.4f  perplexity %.3f", record.test->loss,
                                          record.test->perplexity()));
  }
}

void TraceLoads(const StepRecord& record, const config::Run& run, Trainer& trainer) {
  if (!record.validation.has_value() || record.step == 0) return;
  const absl::Status written =
      WriteLoads(run.run_dir() + "/loads", record.step, trainer.model().statistics());
  LOG_IF(WARNING, !written.ok()) << written.message();
}

struct Summary {
  std::optional<Validation> before;
  std::optional<Validation> after;
  double tokens = 0;
  double seconds = 0;
  std::string checkpoint;  // of the end
  SaveTotals saves;
  double stall_told = 0;  // of saves.stall_seconds, in records
};

void Note(const StepRecord& record, Summary* summary) {
  summary->seconds += record.step_seconds;
  summary->tokens += record.tokens_per_second * record.step_seconds;
  if (!record.validation.has_value()) return;
  (record.step == 0 ? summary->before : summary->after) = record.validation;
}

// The record with what saves have cost since the last one.
StepRecord WithSaves(StepRecord record, const CheckpointSaver& saver, Summary* summary) {
  const double stalled = saver.totals().stall_seconds;
  record.checkpoint_stall_seconds = stalled - std::exchange(summary->stall_told, stalled);
  record.checkpoint_gigabytes_per_second = saver.gigabytes_per_second();
  return record;
}

std::string SavesText(const SaveTotals& saves) {
  std::string text = absl::StrFormat("%d saved, %d failed, %.3f GB at %.2f GB/s", saves.saves,
                                     saves.failures, static_cast<double>(saves.bytes) / 1e9,
                                     static_cast<double>(saves.bytes) / 1e9 / saves.write_seconds);
  if (saves.between_seconds > 0) {
    absl::StrAppendFormat(&text,
                          "; training stood still for %.2f s, %.2f %% of the time between saves",
                          saves.stall_seconds, 100 * saves.stall_seconds / saves.between_seconds);
  }
  return absl::StrCat(text, absl::StrFormat("; %.2f s more at the end", saves.final_seconds));
}

std::string MemoryText(const Arena& arena) {
  constexpr double kMiB = 1 << 20;
  return absl::StrFormat("%.1f MiB of activations at their peak, of %.1f reserved",
                         static_cast<double>(arena.peak_bytes()) / kMiB,
                         static_cast<double>(arena.reserved_bytes()) / kMiB);
}

void Conclude(const config::Run& run, const Summary& summary, const World& world, Trainer& trainer,
              ProgressLine& progress) {
  const auto say = [&progress](const char* what, const std::string& text) {
    progress.Say(absl::StrFormat("%-17s %s", what, text));
  };
  progress.Say("");
  if (summary.before.has_value()) say("before", ValidationText(*summary.before));
  if (summary.after.has_value()) say("after", ValidationText(*summary.after));
  if (summary.seconds > 0) {
    say("training speed", absl::StrFormat("%.0f tokens/s over %.1f s",
                                          summary.tokens / summary.seconds, summary.seconds));
  }
  if (world.device() != Device{}) say("GPU memory", MemoryText(trainer.arena()));
  if (!trainer.finished()) {
    say("left",
        absl::StrFormat("after step %d of %d; the same command without --stop-after goes on",
                        trainer.step(), run.steps()));
  }
  if (!summary.checkpoint.empty()) say("checkpoint", summary.checkpoint);
  if (summary.saves.saves > 0) say("checkpoints", SavesText(summary.saves));
  say("metrics, config",
      absl::StrCat(run.run_dir(), "/metrics.jsonl, ", run.run_dir(), "/config.textproto"));
  if (run.profile().enabled()) {
    progress.Say(absl::StrCat("\n", trainer.profiler().Table(summary.seconds)));
  }
}

// What a checkpoint holds of this rank at most, at a rate that slow disks have.
absl::Duration FirstSaveEstimate(const config::Run& run, const World& world) {
  constexpr double kBytesPerSecond = 100e6;
  const MemoryPlan plan = PlanMemory(run, world.size(), world.rank(), world.device().type);
  return absl::Seconds(static_cast<double>(plan.values + plan.moments) / kBytesPerSecond);
}

constexpr char kTimeLimit[] = "time limit";

// What asked this run to leave: the lowest rank that was asked says what. Collective.
std::string StopReason(bool near_limit, const World& world) {
  const int signal = NotedSignal();
  const std::string mine = signal != 0 ? SignalName(signal) : near_limit ? kTimeLimit : "";
  const std::vector<std::string> reasons = world.Gather(mine);
  int rank = 0;
  while (rank + 1 < world.size() && reasons[rank].empty()) ++rank;
  return rank == 0 ? reasons[rank] : absl::StrCat(reasons[rank], " on rank ", rank);
}

// The status of a run that was asked to leave: saved, to be gone on with.
absl::Status Stopped(int64_t step, const std::string& reason, const std::string& checkpoint) {
  if (step == 0 && absl::StartsWith(reason, kTimeLimit)) {
    return absl::FailedPreconditionError(
        "the time limit came before the first step: it would come there every time; expected a "
        "longer one, or a shorter first validation (eval.sequences)");
  }
  return absl::CancelledError(absl::StrCat("stopped after step ", step, " (", reason, "), saved ",
                                           checkpoint, ": the same command goes on from there"));
}

absl::StatusOr<std::unique_ptr<Trainer>> MakeTrainer(config::Run* run, const Request& request,
                                                     const Corpus& corpus, World& world) {
  if (!request.fresh && !request.force) return ResumeTrainer(run, corpus, world);
  RETURN_IF_ERROR(world.Agree(world.is_first() ? CheckFresh(*run, request) : absl::OkStatus()));
  return NewTrainer(*run, corpus, world);
}

// What a run is made of once it is open. Borrowed.
struct Parts {
  const config::Run& run;
  World& world;
  Trainer& trainer;
  CheckpointSaver& saver;
  Outputs& outputs;
};

// Back to the newest good checkpoint of a step up to `max_step`, after a step that `diverged`.
absl::Status GoBack(const absl::Status& diverged, int64_t max_step, const Parts& parts) {
  const int64_t bad_step = parts.trainer.bad_step();
  parts.saver.Settle();
  const absl::Status restored =
      RestoreNewest(parts.trainer, parts.run, parts.world, std::min(max_step, bad_step - 1));
  if (!restored.ok()) {
    return absl::OutOfRangeError(
        absl::StrCat(diverged.message(), "; no checkpoint to go back to: ", restored.message()));
  }
  parts.saver.Forget();
  absl::Status cut;
  if (parts.world.is_first()) {
    const int64_t step = parts.trainer.step();
    parts.outputs.progress->Say(absl::StrFormat(
        "%s: back to step %d, the data of %d steps are passed over (rewind %d of %d)",
        diverged.message(), step, bad_step - step, parts.trainer.rewinds(),
        parts.run.divergence().most_rewinds()));
    parts.outputs.metrics.reset();  // before the file is written anew
    absl::StatusOr<std::unique_ptr<MetricsFile>> metrics =
        MetricsFile::Continue(parts.run.run_dir() + "/metrics.jsonl", step);
    cut = metrics.status();
    if (metrics.ok()) parts.outputs.metrics = *std::move(metrics);
  }
  return parts.world.Agree(cut);
}

// Trains, and goes back as often as the run allows. A checkpoint after which not one step was sound
// is bad itself: the next time it is an earlier one; the initial weights are as good as any.
absl::Status TrainAndGoBack(const Trainer::Report& report, const Parts& parts) {
  int64_t went_to = -1;
  while (true) {
    const absl::Status status = parts.trainer.Run(report);
    if (status.code() != absl::StatusCode::kAborted) return status;
    const bool same = went_to > 0 && parts.trainer.bad_step() - 1 == went_to;
    RETURN_IF_ERROR(
        GoBack(status, same ? went_to - 1 : std::numeric_limits<int64_t>::max(), parts));
    went_to = parts.trainer.step();
  }
}

// What a run that diverges before its first save goes back to. A failure is a warning.
void SaveInitial(const Parts& parts) {
  const config::Run& run = parts.run;
  if (run.divergence().action() != config::Divergence::REWIND) return;
  if (run.checkpoint().every_steps() == 0) return;
  const absl::StatusOr<std::string> saved = parts.saver.SaveNow(parts.trainer.state());
  LOG_IF(WARNING, !saved.ok() && parts.world.is_first())
      << "the checkpoint of step 0 FAILED: " << saved.status().message()
      << "; training goes on, the next try is after step 1";
}

// Tells the limit how long the saves since `before` took.
void NoteSaves(const SaveTotals& before, const SaveTotals& now, TimeLimit* limit) {
  if (now.saves == before.saves) return;
  limit->NoteSave(absl::Seconds((now.write_seconds - before.write_seconds) /
                                static_cast<double>(now.saves - before.saves)));
}

absl::Status Train(config::Run run, const Request& request, World& world) {
  RETURN_IF_ERROR(CheckRanks(run, world.size()));
  const absl::StatusOr<std::unique_ptr<Corpus>> corpus = Corpus::Open(run.data());
  RETURN_IF_ERROR(world.Agree(corpus.status()));
  absl::StatusOr<std::unique_ptr<RunLock>> lock = nullptr;
  if (world.is_first()) lock = LockIfThere(run.run_dir());
  RETURN_IF_ERROR(world.Agree(lock.status()));
  ASSIGN_OR_RETURN(const std::unique_ptr<Trainer> trainer,
                   MakeTrainer(&run, request, **corpus, world));
  absl::StatusOr<Outputs> outputs = Outputs{};
  if (world.is_first()) {
    outputs = OpenOutputs(run, request, trainer->resumed_from(), *std::move(lock));
  }
  RETURN_IF_ERROR(world.Agree(outputs.status()));
  google::SetLogDestination(google::INFO, (run.run_dir() + "/log/unipool.").c_str());

  LOG(INFO) << "unipool " << VersionLine();
  LOG(INFO) << "computes on " << DescribeDevice(run, world.device());
  if (world.is_first()) Introduce(run, request, world, *trainer, *outputs->progress);
  trainer->StopAfter(request.stop_after);
  const std::string checkpoints = run.run_dir() + "/checkpoints";
  ASSIGN_OR_RETURN(const auto saver, CheckpointSaver::Create(checkpoints, run.checkpoint(), world));
  Summary summary;
  TimeLimit limit(request.end, FirstSaveEstimate(run, world));
  bool near_limit = false;
  trainer->set_wants_stop([&] {
    near_limit = near_limit || limit.IsNear(absl::Now());
    return near_limit || NotedSignal() != 0;
  });
  const auto report = [&](const StepRecord& record) {
    Note(record, &summary);
    limit.NoteStep(absl::Seconds(record.step_seconds));
    if (world.is_first()) {
      Tell(WithSaves(record, *saver, &summary), *outputs);
      TraceLoads(record, run, *trainer);
    }
    const SaveTotals before = saver->totals();
    if (record.step == 0) SaveInitial({run, world, *trainer, *saver, *outputs});
    saver->AfterStep(trainer->state());
    NoteSaves(before, saver->totals(), &limit);
    return absl::OkStatus();
  };
  const absl::Status trained = TrainAndGoBack(report, {run, world, *trainer, *saver, *outputs});
  if (!trained.ok()) {
    saver->Settle();  // a save under way is of a sound step
    return trained;
  }
  if ((run.checkpoint().save_final() || !trainer->finished()) && trainer->changed()) {
    ASSIGN_OR_RETURN(summary.checkpoint, saver->SaveNow(trainer->state()));
  }
  saver->Settle();
  summary.saves = saver->totals();
  if (trainer->stopped() && !trainer->finished()) {
    return Stopped(trainer->step(), StopReason(near_limit, world),
                   CheckpointPath(checkpoints, trainer->step()));
  }
  if (world.is_first()) Conclude(run, summary, world, *trainer, *outputs->progress);
  return absl::OkStatus();
}

absl::StatusOr<config::Run> LoadRun(const CommandLine& line) {
  ASSIGN_OR_RETURN(std::vector<std::string> overrides, RunOverrides(line));
  if (line.Has("run-dir")) {
    overrides.push_back(absl::StrCat("run_dir=", line.Value("run-dir", "")));
  }
  return LoadRunConfig(line.Value("config", ""), overrides);
}

absl::StatusOr<Request> ParseRequest(const CommandLine& line, absl::Time job_start) {
  Request request{.fresh = line.Has("fresh") && !IsRestart(),
                  .force = line.Has("force") && !IsRestart()};
  ASSIGN_OR_RETURN(request.stop_after, line.Integer("stop-after", request.stop_after, 0));
  if (line.Has("time-limit")) {
    ASSIGN_OR_RETURN(const absl::Duration limit, ParseTimeLimit(line.Value("time-limit", "")));
    request.end = job_start + limit;
  }
  return request;
}

int RunTrain(const CommandLine& line) {
  WatchSignals();
  absl::StatusOr<Request> request = ParseRequest(line, JobStart());
  if (!request.ok()) return Report(request.status());
  absl::StatusOr<config::Run> run = LoadRun(line);
  if (!run.ok()) return Report(run.status());
  request->poor_constant = EstimatesPoorly(*run);
  StateRouterConstant(&*run);
  MpiSession session;
  const absl::StatusOr<std::unique_ptr<World>> world = World::Create(*run);
  if (!world.ok()) return Report(world.status());
  return Report(Train(*run, *request, **world));
}

}  // namespace

Command TrainCommand() {
  return {.name = "train",
          .summary = "trains a model and writes a run folder, or resumes the run in that folder",
          .spec = kSpec,
          .run = &RunTrain};
}

}  // namespace unipool
