#include "launch/train/resume.h"

#include <glog/logging.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"
#include "launch/checkpoint/config_change.h"
#include "launch/checkpoint/folder.h"
#include "launch/checkpoint/former_defaults.h"
#include "launch/checkpoint/run_folder.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// The steps whose checkpoints to try, in that order. The first rank reads the folder.
absl::StatusOr<std::vector<int64_t>> AgreedSteps(const std::string& checkpoints,
                                                 const World& world) {
  absl::StatusOr<std::vector<int64_t>> steps = std::vector<int64_t>();
  if (world.is_first()) {
    std::string warning;
    steps = StepsToTry(checkpoints, &warning);
    if (!warning.empty()) LOG(WARNING) << warning;
  }
  RETURN_IF_ERROR(world.Agree(steps.status()));
  const std::string first_rank_text = world.Gather(absl::StrJoin(*steps, " "))[0];
  steps->clear();
  for (const absl::string_view text : absl::StrSplit(first_rank_text, ' ', absl::SkipEmpty())) {
    int64_t step = 0;
    CHECK(absl::SimpleAtoi(text, &step)) << first_rank_text;
    steps->push_back(step);
  }
  return steps;
}

// Calls `use` with the checkpoints of `steps` in that order until it succeeds. A checkpoint that is
// damaged for any rank is skipped with a warning.
absl::Status UseNewest(const std::string& checkpoints, const std::vector<int64_t>& steps,
                       const World& world,
                       const std::function<absl::Status(const Checkpoint&)>& use) {
  for (const int64_t step : steps) {
    const absl::StatusOr<Checkpoint> checkpoint =
        Checkpoint::Open(CheckpointPath(checkpoints, step));
    absl::Status status = world.Agree(checkpoint.status());
    if (status.ok()) status = use(*checkpoint);
    if (status.ok()) return status;
    const bool damaged = status.code() == absl::StatusCode::kDataLoss ||
                         status.code() == absl::StatusCode::kNotFound;
    if (!damaged) return status;
    LOG_IF(WARNING, MustReport(status)) << "checkpoint passed over: " << status.message();
  }
  return absl::DataLossError(
      absl::StrCat(checkpoints, ": all ", steps.size(),
                   " checkpoints are damaged; copy a good one there, or start a new run with "
                   "another --run-dir or --force"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Trainer>> NewTrainer(const config::Run& run, const Corpus& corpus,
                                                    World& world) {
  absl::StatusOr<std::unique_ptr<Trainer>> trainer = Trainer::Create(run, corpus, world);
  RETURN_IF_ERROR(world.Agree(trainer.status()));
  return trainer;
}

absl::StatusOr<std::unique_ptr<Trainer>> ResumeTrainer(config::Run* run,
                                                       const std::vector<std::string>& changed,
                                                       const Corpus& corpus, World& world) {
  const std::string checkpoints = RunFolder(run->run_dir()).checkpoints();
  ASSIGN_OR_RETURN(const std::vector<int64_t> steps, AgreedSteps(checkpoints, world));
  if (steps.empty() && !changed.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--change ", changed[0], ": ", checkpoints,
                                                   " holds no checkpoint to resume; use --set"));
  }
  if (steps.empty()) return NewTrainer(*run, corpus, world);
  const config::Run requested = *run;
  std::unique_ptr<Trainer> trainer;
  const absl::Status used = UseNewest(checkpoints, steps, world, [&](const Checkpoint& checkpoint) {
    *run = requested;
    AdoptSchedule(checkpoint.manifest().run(), changed, run);
    const std::string defaults = AdoptFormerDefaults(checkpoint.manifest().run(), run);
    LOG_IF(WARNING, world.is_first() && !defaults.empty()) << defaults;
    RETURN_IF_ERROR(CheckSameRun(checkpoint.folder(), checkpoint.manifest(), *run, changed));
    RETURN_IF_ERROR(world.Agree(
        CheckSameData(checkpoint.folder(), checkpoint.manifest(), corpus.identities())));
    const std::string warning = LocalStatisticsWarning(checkpoint.manifest(), *run, world.size());
    LOG_IF(WARNING, world.is_first() && !warning.empty()) << warning;
    const std::string note = ScheduleNote(requested, *run);
    LOG_IF(WARNING, world.is_first() && !note.empty()) << note;
    const std::string order = OrderNote(checkpoint.folder(), checkpoint.manifest(), run->data());
    LOG_IF(WARNING, world.is_first() && !order.empty()) << order;
    trainer.reset();  // frees the memory of a try with a damaged checkpoint
    ASSIGN_OR_RETURN(trainer, NewTrainer(*run, corpus, world));
    trainer->set_changes(ChangesOf(checkpoint.manifest(), *run, changed));
    return trainer->Restore(checkpoint);
  });
  if (!used.ok()) return used;
  return trainer;
}

absl::Status RestoreNewest(Trainer& trainer, const config::Run& run, const World& world,
                           int64_t max_step) {
  const std::string checkpoints = RunFolder(run.run_dir()).checkpoints();
  ASSIGN_OR_RETURN(std::vector<int64_t> steps, AgreedSteps(checkpoints, world));
  steps.erase(std::remove_if(steps.begin(), steps.end(),
                             [max_step](int64_t step) { return step > max_step; }),
              steps.end());
  if (steps.empty())
    return absl::DataLossError(
        absl::StrCat(checkpoints, ": holds no checkpoint of a step up to ", max_step));
  return UseNewest(checkpoints, steps, world,
                   [&](const Checkpoint& checkpoint) { return trainer.Restore(checkpoint); });
}

}  // namespace unipool
