// `unipool train`: trains the model of a config in a run folder.
#include <algorithm>
#include <initializer_list>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "configs/run.pb.h"
#include "launch/checkpoint/config_change.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/load_run.h"
#include "launch/commands/run_flags.h"
#include "launch/config/run_config.h"
#include "launch/train/training_session.h"
#include "launch/world/signals.h"
#include "launch/world/time_limit.h"
#include "launch/world/world.h"
#include "runtime/status.h"

namespace unipool {
namespace {

const CommandSpec kSpec{
    .flags = {ConfigFlag(),
              SetFlag(),
              DeviceFlag(),
              ThreadsFlag(),
              {"run-dir", "FOLDER", "the run folder (run_dir); a run that it holds is resumed"},
              {"stop-after", "N",
               "saves a checkpoint after step N and exits; 0 saves the initial weights"},
              {"time-limit", "TIME",
               "saves a checkpoint before this time is over and exits with status 75, as in 3h50m "
               "or 1-02:00:00"},
              {.name = "change",
               .value = "FIELD=VALUE",
               .help = "resumes with another value of a field of schedule or optimizer or of a "
                       "balance loss, which the run keeps; recorded in checkpoints and "
                       "events.jsonl",
               .is_repeated = true},
              {"smoke", "N",
               "tries the config for N steps in RUN-smoke, which is replaced: no checkpoints, two "
               "short validations, and a schedule of N steps"},
              {"fresh", "", "starts a new run; refuses a folder that already holds one"},
              {"force", "", "starts a new run and removes the one that the folder holds"},
              HelpFlag()}};

// model/method.md#router-constant: with few experts, rare draws dominate the mean that estimates c.
bool EstimatesNoisyConstant(const config::Run& run) {
  constexpr int64_t kFewExperts = 16;
  return run.model().ffn_kind() == config::Model::MOE &&
         run.pool().router() == config::Pool::NORM && run.pool().router_c() == 0 &&
         run.pool().experts() <= kFewExperts;
}

absl::StatusOr<config::Run> LoadRun(const CommandLine& line) {
  ASSIGN_OR_RETURN(std::vector<std::string> overrides, RunOverrides(line));
  if (line.Has("run-dir")) {
    overrides.push_back(absl::StrCat("run_dir=", line.Value("run-dir", "")));
  }
  const std::vector<std::string>& changes = line.Values("change");
  overrides.insert(overrides.end(), changes.begin(), changes.end());
  return LoadRunAndWarn(line.Value("config", ""), overrides);
}

// The config of --smoke: all that depends on the number of steps is scaled to `steps` or off.
absl::StatusOr<config::Run> LoadSmokeRun(const CommandLine& line, int64_t steps) {
  constexpr int kSequences = 16;
  ASSIGN_OR_RETURN(std::vector<std::string> overrides, RunOverrides(line));
  const int64_t warmup_steps = std::max<int64_t>(1, steps / 10);
  for (const auto& [field, value] : std::initializer_list<std::pair<const char*, int64_t>>{
           {"steps", steps},
           {"schedule.decay_steps", steps},
           {"schedule.warmup_steps", warmup_steps},
           {"eval.every_steps", 0},
           {"eval.sequences", kSequences},
           {"eval.test", 0},
           {"checkpoint.every_steps", 0},
           {"checkpoint.save_final", 0}}) {
    overrides.push_back(absl::StrCat(field, "=", value));
  }
  ASSIGN_OR_RETURN(config::Run run, LoadRunAndWarn(line.Value("config", ""), overrides));
  run.set_run_dir(absl::StrCat(line.Value("run-dir", run.run_dir()), "-smoke"));
  if (LaunchRank() == 0) {
    absl::PrintF(
        "smoke test in %s: steps and schedule.decay_steps %d, schedule.warmup_steps %d, validation "
        "of %d sequences before and after, no checkpoints\n",
        run.run_dir(), steps, warmup_steps, kSequences);
  }
  return run;
}

StartMode ChooseStart(const CommandLine& line) {
  if (IsRestart()) return StartMode::kResume;
  if (line.Has("force") || line.Has("smoke")) return StartMode::kReplace;
  return line.Has("fresh") ? StartMode::kNew : StartMode::kResume;
}

absl::StatusOr<TrainingRequest> ParseRequest(const CommandLine& line, absl::Time job_start) {
  TrainingRequest request{.start = ChooseStart(line)};
  ASSIGN_OR_RETURN(request.stop_after, line.Integer("stop-after", request.stop_after, 0));
  for (const std::string& change : line.Values("change")) {
    request.changed_fields.push_back(change.substr(0, change.find('=')));
  }
  if (!request.changed_fields.empty() && request.start != StartMode::kResume) {
    return absl::InvalidArgumentError(
        "--change is for a run that resumes; use --set with --fresh, --force and --smoke");
  }
  if (line.Has("time-limit")) {
    ASSIGN_OR_RETURN(const absl::Duration limit, ParseTimeLimit(line.Value("time-limit", "")));
    request.end = job_start + limit;
  }
  return request;
}

int RunTrain(const CommandLine& line) {
  WatchSignals();
  IgnorePipeSignal();
  absl::StatusOr<TrainingRequest> request = ParseRequest(line, JobStart());
  if (!request.ok()) return Report(request.status());
  const absl::StatusOr<int64_t> smoke_steps = line.Integer("smoke", 0, 1);
  if (!smoke_steps.ok()) return Report(smoke_steps.status());
  absl::StatusOr<config::Run> run =
      *smoke_steps > 0 ? LoadSmokeRun(line, *smoke_steps) : LoadRun(line);
  if (!run.ok()) return Report(run.status());
  const absl::Status changeable = CheckChangeable(request->changed_fields);
  if (!changeable.ok()) return Report(changeable);
  request->has_noisy_constant = EstimatesNoisyConstant(*run);
  StateRouterConstant(&*run);
  MpiSession session;
  const absl::StatusOr<std::unique_ptr<World>> world = World::Create(*run);
  if (!world.ok()) return Report(world.status());
  return Report(TrainRun(*std::move(run), *request, **world));
}

}  // namespace

Command TrainCommand() {
  return {.name = "train",
          .summary = "trains a model and writes a run folder, or resumes the run in that folder",
          .spec = kSpec,
          .run = &RunTrain};
}

}  // namespace unipool
