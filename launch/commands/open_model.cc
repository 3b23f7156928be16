#include "launch/commands/open_model.h"

#include <glog/logging.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "launch/checkpoint/reader.h"
#include "launch/commands/commands.h"
#include "launch/commands/load_run.h"
#include "launch/commands/run_flags.h"
#include "launch/config/config_fields.h"
#include "launch/config/run_config.h"
#include "launch/world/world.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr int64_t kBatchTokens = 8192;

absl::StatusOr<std::vector<std::string>> FindCheckpoints(const CommandLine& line) {
  if (line.Has("checkpoint")) return CheckpointsToTry(line.Value("checkpoint", ""));
  return absl::InvalidArgumentError(
      "--checkpoint is missing; give a run folder or the folder of a checkpoint");
}

bool IsDamage(const absl::Status& status) {
  return status.code() == absl::StatusCode::kDataLoss ||
         status.code() == absl::StatusCode::kNotFound;
}

// The first of `folders` whose manifest is good; removes those before it.
absl::StatusOr<Checkpoint> OpenFirst(std::vector<std::string>* folders) {
  while (true) {
    absl::StatusOr<Checkpoint> checkpoint = Checkpoint::Open(folders->front());
    if (checkpoint.ok() || !IsDamage(checkpoint.status()) || folders->size() == 1) {
      return checkpoint;
    }
    LOG_IF(WARNING, LaunchRank() == 0)
        << "checkpoint passed over: " << checkpoint.status().message();
    folders->erase(folders->begin());
  }
}

// Takes data, eval, parallel and model.precision of `run` from `given`, the config in `file`. Its
// other model fields must be those of the checkpoint.
absl::Status Adopt(const config::Run& given, const std::string& file, config::Run* run) {
  for (const std::string& path : FieldPaths(given.model())) {
    const std::string theirs = TextAt(given.model(), path), ours = TextAt(run->model(), path);
    if (theirs == ours || path == "precision") continue;
    return absl::InvalidArgumentError(absl::StrCat(
        file, ": model.", path, " is ", theirs, ", but the checkpoint was trained with ", ours,
        "; give the config of the checkpoint, or omit --config"));
  }
  run->mutable_model()->set_precision(given.model().precision());
  *run->mutable_data() = given.data();
  *run->mutable_eval() = given.eval();
  *run->mutable_parallel() = given.parallel();
  return absl::OkStatus();
}

absl::StatusOr<config::Run> MakeRun(const CommandLine& line, const Checkpoint& checkpoint) {
  config::Run run = checkpoint.run();
  if (line.Has("config")) {
    const std::string file = line.Value("config", "");
    ASSIGN_OR_RETURN(const config::Run given, LoadRunAndWarn(file, {}));
    RETURN_IF_ERROR(Adopt(given, file, &run));
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> overrides, RunOverrides(line));
  return OverrideRunAndWarn(run, checkpoint.folder(), overrides);
}

absl::StatusOr<std::unique_ptr<InferenceModel>> LoadModel(const config::Run& run,
                                                          const Checkpoint& checkpoint,
                                                          int64_t batch_tokens, World& world) {
  RETURN_IF_ERROR(CheckRanks(run, world.size()));
  auto model = InferenceModel::Create(run, batch_tokens, world);
  RETURN_IF_ERROR(world.Agree(model.status()));
  RETURN_IF_ERROR((*model)->Load(checkpoint));
  return model;
}

}  // namespace

std::vector<Flag> WithModelFlags(std::vector<Flag> flags) {
  std::vector<Flag> all = {
      {"checkpoint", "FOLDER",
       "folder of a checkpoint, or run folder, which stands for its newest checkpoint (required)"},
      {"config", "FILE",
       "config whose data, eval and parallel are used instead of those of the checkpoint"},
      SetFlag(),
      DeviceFlag(),
      ThreadsFlag(),
      {"batch-tokens", "N", "maximum tokens of a rank in one forward pass (default 8192)"}};
  for (Flag& flag : flags) all.push_back(std::move(flag));
  all.push_back(HelpFlag());
  return all;
}

std::vector<Flag> TextFlags() {
  return {{"split", "validation|test|train", "part of the data to read (default validation)"},
          {"first", "N", "skips the first N sequences of the part (default 0)"},
          {"sequences", "N",
           "number of sequences to read; 0 reads all of a part that is finite (default "
           "eval.sequences)"}};
}

int OpenModel(const CommandLine& line, const UseModel& use_model) {
  const absl::StatusOr<int64_t> batch_tokens = line.Integer("batch-tokens", kBatchTokens, 1);
  if (!batch_tokens.ok()) return Report(batch_tokens.status());
  absl::StatusOr<std::vector<std::string>> folders = FindCheckpoints(line);
  if (!folders.ok()) return Report(folders.status());
  absl::StatusOr<Checkpoint> checkpoint = OpenFirst(&*folders);
  if (!checkpoint.ok()) return Report(checkpoint.status());
  absl::StatusOr<config::Run> run = MakeRun(line, *checkpoint);
  if (!run.ok()) return Report(run.status());
  MpiSession session;
  const absl::StatusOr<std::unique_ptr<World>> world = World::Create(*run);
  if (!world.ok()) return Report(world.status());
  auto model = LoadModel(*run, *checkpoint, *batch_tokens, **world);
  while (IsDamage(model.status()) && folders->size() > 1) {
    LOG_IF(WARNING, (*world)->is_first()) << "checkpoint passed over: " << model.status().message();
    folders->erase(folders->begin());
    checkpoint = OpenFirst(&*folders);
    if (checkpoint.ok()) run = MakeRun(line, *checkpoint);
    const absl::Status opened = checkpoint.ok() ? run.status() : checkpoint.status();
    if (const absl::Status all = (*world)->Agree(opened); !all.ok()) return Report(all);
    model = LoadModel(*run, *checkpoint, *batch_tokens, **world);
  }
  if (!model.ok()) return Report(model.status());
  const ModelOrigin origin{.checkpoint = checkpoint->folder(), .step = checkpoint->step()};
  return Report(use_model(origin, **model));
}

absl::StatusOr<std::unique_ptr<EvaluationText>> OpenText(const TextPart& wanted,
                                                         InferenceModel& model) {
  TextPart part = wanted;
  part.order_version = model.order_version();
  auto text = EvaluationText::Open(model.run(), part);
  RETURN_IF_ERROR(model.world().Agree(text.status()));
  const int64_t found = (*text)->part().sequences;
  const bool is_megatron = model.run().data().order() == config::Data::MEGATRON;
  LOG_IF(WARNING, found < wanted.sequences && model.world().is_first())
      << wanted.sequences << " sequences of the " << SplitName(wanted.split)
      << " part were requested, but it has only " << found
      << (is_megatron ? "; data.order = MEGATRON sizes it by eval.sequences, so increase that"
                      : "");
  return text;
}

absl::StatusOr<TextPart> ParseTextPart(const CommandLine& line, const config::Run& run) {
  TextPart part;
  ASSIGN_OR_RETURN(part.split, ParseSplit("split", line.Value("split", "validation")));
  ASSIGN_OR_RETURN(part.first, line.Integer("first", 0, 0));
  ASSIGN_OR_RETURN(part.sequences, line.Integer("sequences", run.eval().sequences(), 0));
  return part;
}

}  // namespace unipool
