// `unipool train`: from a config to a trained model in a run folder.
#include <glog/logging.h>

#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "data/indexed_dataset.h"
#include "launch/checkpoint.h"
#include "launch/command_line.h"
#include "launch/commands.h"
#include "launch/exit_codes.h"
#include "launch/files.h"
#include "launch/metrics.h"
#include "launch/run_config.h"
#include "launch/signals.h"
#include "launch/time_limit.h"
#include "launch/trainer.h"
#include "launch/world.h"
#include "model/footprint.h"
#include "runtime/status.h"

namespace unipool {
namespace {

const CommandSpec kSpec{
    .flags = {{"config", "FILE", "textproto of the run"},
              {"set", "FIELD=VALUE", "overrides a field, as in model.layers=4", true},
              {"threads", "N", "CPU threads of each rank (parallel.threads)"},
              {"run-dir", "FOLDER", "where the run is written (run_dir)"},
              {"force", "", "replaces a run that the folder already holds"},
              {"time-limit", "TIME", "saves and leaves in time (status 75): 3h50m, 1-02:00:00"},
              {"help", "", "prints this"}}};

// What the command line asks for beside the config.
struct Request {
  bool force;
  bool poor_constant;  // the router's c is estimated, for too few experts
  absl::Time end;      // of the time that the run may take
};

// What one rank keeps open while it trains; only the first rank has files and a terminal.
struct Outputs {
  std::unique_ptr<MetricsFile> metrics;
  std::unique_ptr<ProgressLine> progress;
};

absl::StatusOr<Outputs> FillRunFolder(const config::Run& run) {
  const std::string& folder = run.run_dir();
  Outputs outputs;
  RETURN_IF_ERROR(MakeFolders(folder));
  RETURN_IF_ERROR(RemoveTree(folder + "/checkpoints"));  // of the run that this one replaces
  RETURN_IF_ERROR(WriteFileAtomically(folder + "/config.textproto", ToText(run)));
  ASSIGN_OR_RETURN(outputs.metrics, MetricsFile::Create(folder + "/metrics.jsonl"));
  RETURN_IF_ERROR(MakeFolders(folder + "/log"));
  RETURN_IF_ERROR(MakeFolders(folder + "/checkpoints"));
  outputs.progress = std::make_unique<ProgressLine>(run.steps(), OutputIsTerminal());
  return outputs;
}

// The run folder, new or, with `force`, in place of another run. A new one that cannot be filled is
// taken away again.
absl::StatusOr<Outputs> OpenOutputs(const config::Run& run, bool force) {
  for (const char* name : {"metrics.jsonl", "checkpoints"}) {
    ASSIGN_OR_RETURN(const bool is_there, Exists(absl::StrCat(run.run_dir(), "/", name)));
    if (!is_there || force) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(run.run_dir(), ": already holds a run (", name,
                     "); expected a new folder (--run-dir), or --force to replace it"));
  }
  ASSIGN_OR_RETURN(const bool existed, Exists(run.run_dir()));
  absl::StatusOr<Outputs> outputs = FillRunFolder(run);
  if (!outputs.ok() && !existed) RemoveTree(run.run_dir()).IgnoreError();
  return outputs;
}

std::string ValidationText(const Validation& validation) {
  std::string text = absl::StrFormat("validation loss %.4f  perplexity %.3f", validation.loss,
                                     validation.perplexity());
  if (validation.bits_per_byte.has_value()) {
    absl::StrAppendFormat(&text, "  bits/byte %.4f", *validation.bits_per_byte);
  }
  return text;
}

// Facts C.3, M.11: with few experts the mean that c estimates is ruled by rare draws.
bool EstimatesPoorly(const config::Run& run) {
  constexpr int64_t kFewExperts = 16;
  return run.model().ffn_kind() == config::Model::MOE &&
         run.pool().router() == config::Pool::NORM && run.pool().router_c() == 0 &&
         run.pool().experts() <= kFewExperts;
}

void Introduce(const config::Run& run, const Request& request, const World& world,
               ProgressLine& progress) {
  progress.Say(absl::StrFormat(
      "%.2f M parameters (%.2f M active), %d %s, %d sequences of %d tokens a step",
      CountParameters(run).total() / 1e6, ActiveParameters(run) / 1e6, world.size(),
      world.size() == 1 ? "rank" : "ranks", run.data().global_batch(), run.model().sequence()));
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
}

struct Summary {
  Validation before{};
  Validation after{};
  double tokens = 0;
  double seconds = 0;
};

void Note(const StepRecord& record, Summary* summary) {
  summary->seconds += record.step_seconds;
  summary->tokens += record.tokens_per_second * record.step_seconds;
  if (!record.validation.has_value()) return;
  if (record.step == 0) summary->before = *record.validation;
  summary->after = *record.validation;
}

void Conclude(const config::Run& run, const Summary& summary, const std::string& checkpoint,
              ProgressLine& progress) {
  progress.Say(absl::StrCat("\nbefore            ", ValidationText(summary.before)));
  progress.Say(absl::StrCat("after             ", ValidationText(summary.after)));
  progress.Say(absl::StrFormat("training speed    %.0f tokens/s over %.1f s",
                               summary.tokens / summary.seconds, summary.seconds));
  if (!checkpoint.empty()) progress.Say(absl::StrCat("weights           ", checkpoint));
  progress.Say(absl::StrCat("metrics, config   ", run.run_dir(), "/metrics.jsonl, ", run.run_dir(),
                            "/config.textproto"));
}

// What a checkpoint holds of this rank at most, at a rate that slow disks have.
absl::Duration FirstSaveEstimate(const config::Run& run, const World& world) {
  constexpr double kBytesPerSecond = 100e6;
  const MemoryPlan plan = PlanMemory(run, world.size(), world.rank());
  return absl::Seconds(static_cast<double>(plan.values + plan.moments) / kBytesPerSecond);
}

std::string StopReason() {
  const int signal = NotedSignal();
  return signal == 0 ? "near the time limit, or asked on another rank" : SignalName(signal);
}

// The status of a run that was asked to leave: saved, to be gone on with.
absl::Status Stopped(int64_t step, const std::string& checkpoint) {
  return absl::CancelledError(absl::StrCat("stopped after step ", step, " (", StopReason(),
                                           "), saved ", checkpoint,
                                           ": the same command goes on from there"));
}

absl::Status Train(const config::Run& run, const Request& request, World& world) {
  RETURN_IF_ERROR(CheckRanks(run, world.size()));
  absl::StatusOr<std::unique_ptr<IndexedDataset>> dataset =
      IndexedDataset::Open(run.data().prefix());
  RETURN_IF_ERROR(world.Agree(dataset.status()));
  absl::StatusOr<std::unique_ptr<Trainer>> trainer = Trainer::Create(run, **dataset, world);
  RETURN_IF_ERROR(world.Agree(trainer.status()));
  absl::StatusOr<Outputs> outputs = Outputs{};
  if (world.is_first()) outputs = OpenOutputs(run, request.force);
  RETURN_IF_ERROR(world.Agree(outputs.status()));
  google::SetLogDestination(google::INFO, (run.run_dir() + "/log/unipool.").c_str());

  if (world.is_first()) Introduce(run, request, world, *outputs->progress);
  Summary summary;
  TimeLimit limit(request.end, FirstSaveEstimate(run, world));
  (*trainer)->set_wants_stop([&] { return NotedSignal() != 0 || limit.IsNear(absl::Now()); });
  RETURN_IF_ERROR((*trainer)->Run([&](const StepRecord& record) {
    Note(record, &summary);
    limit.NoteStep(absl::Seconds(record.step_seconds));
    if (world.is_first()) Tell(record, *outputs);
  }));
  std::string checkpoint;
  if (run.checkpoint().save_final() || !(*trainer)->finished()) {
    ASSIGN_OR_RETURN(checkpoint, SaveWeights(run.run_dir() + "/checkpoints", run,
                                             (*trainer)->step(), (*trainer)->parameters(), world));
  }
  if (!(*trainer)->finished()) return Stopped((*trainer)->step(), checkpoint);
  if (!world.is_first()) return absl::OkStatus();
  Conclude(run, summary, checkpoint, *outputs->progress);
  if (run.profile().enabled()) {
    outputs->progress->Say(absl::StrCat("\n", (*trainer)->profiler().Table(summary.seconds)));
  }
  return absl::OkStatus();
}

std::vector<std::string> Overrides(const CommandLine& line) {
  std::vector<std::string> overrides = line.Values("set");
  if (line.Has("threads")) {
    overrides.push_back(absl::StrCat("parallel.threads=", line.Value("threads", "")));
  }
  if (line.Has("run-dir")) {
    overrides.push_back(absl::StrCat("run_dir=", line.Value("run-dir", "")));
  }
  return overrides;
}

}  // namespace

int TrainCommand(const std::vector<std::string>& args) {
  WatchSignals();
  Request request{.force = false, .poor_constant = false, .end = absl::InfiniteFuture()};
  const absl::Time start = JobStart();
  const absl::StatusOr<CommandLine> line = CommandLine::Parse(args, kSpec);
  if (!line.ok()) return Report(line.status());
  if (line->Has("help")) {
    std::fputs(UsageText("unipool train", kSpec).c_str(), stdout);
    return kExitDone;
  }
  request.force = line->Has("force");
  if (line->Has("time-limit")) {
    const absl::StatusOr<absl::Duration> limit = ParseTimeLimit(line->Value("time-limit", ""));
    if (!limit.ok()) return Report(limit.status());
    request.end = start + *limit;
  }
  absl::StatusOr<config::Run> run = LoadRunConfig(line->Value("config", ""), Overrides(*line));
  if (!run.ok()) return Report(run.status());
  request.poor_constant = EstimatesPoorly(*run);
  StateRouterConstant(&*run);
  MpiSession session;
  const absl::StatusOr<std::unique_ptr<World>> world = World::Create(*run);
  if (!world.ok()) return Report(world.status());
  return Report(Train(*run, request, **world));
}

}  // namespace unipool
