#include "launch/checkpoint/config_change.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "configs/checkpoint.pb.h"
#include "launch/config/config_fields.h"
#include "runtime/quote.h"

namespace unipool {
namespace {

// Fields that may change when a run resumes, or messages all of whose fields may: they decide how
// long, where and how fast the run trains, not what it computes.
constexpr std::array<absl::string_view, 16> kFree = {"run_dir",
                                                     "model.recompute",
                                                     "model.precision",
                                                     "steps",
                                                     "pool.gradient_layers",
                                                     "data.prefix",
                                                     "data.micro_batch",
                                                     "data.skip_steps",
                                                     "data.cache_folder",
                                                     "data.vocab_file",
                                                     "data.merges_file",
                                                     "parallel",
                                                     "eval",
                                                     "checkpoint",
                                                     "divergence",
                                                     "profile"};

// Fields that --change may change, or messages all of whose fields may. Each step uses them afresh:
// no state of the run depends on their former values.
constexpr std::array<absl::string_view, 7> kChangeable = {
    "schedule",        "optimizer",      "pool.pool_loss",       "pool.layer_loss",
    "pool.statistics", "pool.bias_rate", "pool.layer_statistics"};

constexpr char kNewRun[] =
    "start a new run with another --run-dir, or with --force to replace this one";

// True if `path` is one of `fields`, or in one of them.
template <typename Fields>
bool IsIn(const Fields& fields, const std::string& path) {
  return std::any_of(fields.begin(), fields.end(), [&](absl::string_view field) {
    return path == field || absl::StartsWith(path, absl::StrCat(field, "."));
  });
}

bool IsFree(const config::Run& run, const std::string& path) {
  // The sample order of Megatron depends on the number of steps.
  if (path == "steps" && run.data().order() == config::Data::MEGATRON) return false;
  return IsIn(kFree, path);
}

// Why a field cannot change.
std::string ReasonAgainst(const std::string& path) {
  if (IsIn(kFree, path)) return "may differ at each start; use --set";
  if (path == "data.global_batch" || path == "model.sequence") {
    return "decides which data the next step reads";
  }
  if (absl::StartsWith(path, "data.")) return "is the data that the run is trained on";
  if (path == "seed") return "decides the order of the data";
  return "is a part of the model, whose weights have been trained with it";
}

// True if warmup_steps has the value that is derived from decay_steps.
bool HasDerivedWarmup(const config::Schedule& schedule) {
  return schedule.warmup_steps() == std::max<int64_t>(1, schedule.decay_steps() / 100);
}

// Describes the content of a dataset.
std::string ContentText(int64_t documents, int64_t tokens, const std::string& file,
                        const std::string& hash) {
  return absl::StrCat(documents, " documents, ", tokens, " tokens, xxh3_128 of the ", file, " ",
                      hash);
}

// The difference of the two datasets; "" if they have the same content.
std::string DataChange(const config::Manifest::Dataset& saved, const DatasetIdentity& found) {
  const bool same_index = saved.documents() == found.documents && saved.tokens() == found.tokens &&
                          saved.idx_xxh3_128() == found.index_hash;
  if (same_index && saved.bin_sample_xxh3_128() == found.token_sample_hash) return "";
  const char* suffix = same_index ? ".bin" : ".idx";
  const std::string expected = same_index ? saved.bin_sample_xxh3_128() : saved.idx_xxh3_128();
  const std::string seen = same_index ? found.token_sample_hash : found.index_hash;
  const std::string what = same_index ? "sampled .bin" : ".idx";
  return absl::StrCat(
      found.prefix, suffix, ": found ", ContentText(found.documents, found.tokens, what, seen),
      "; the checkpoint has ", ContentText(saved.documents(), saved.tokens(), what, expected));
}

int64_t MicroBatch(const config::Run& run, int ranks) {
  const int64_t share = (run.data().global_batch() + ranks - 1) / ranks;
  return run.data().micro_batch() == 0 ? share : std::min(share, run.data().micro_batch());
}

// True if a balance loss depends on the micro-batches of single ranks.
bool HasLocalLoss(const config::Run& run) {
  const config::Pool& pool = run.pool();
  if (run.model().ffn_kind() != config::Model::MOE) return false;
  return (pool.statistics() == config::Pool::LOCAL && pool.pool_loss() > 0) ||
         (pool.layer_statistics() == config::Pool::LOCAL && pool.layer_loss() > 0);
}

}  // namespace

absl::Status CheckChangeable(const std::vector<std::string>& fields) {
  for (const std::string& field : fields) {
    if (IsIn(kChangeable, field)) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--change ", CutInput(field), ": ", ReasonAgainst(field),
                     "; --change accepts fields of ", absl::StrJoin(kChangeable, ", ")));
  }
  return absl::OkStatus();
}

std::vector<ConfigChange> ChangesOf(const config::Manifest& saved, const config::Run& run,
                                    const std::vector<std::string>& fields) {
  std::vector<ConfigChange> changes;
  for (const config::Manifest::Change& change : saved.changes()) {
    changes.push_back({change.step(), change.field(), change.former(), change.value()});
  }
  for (const std::string& field : fields) {
    const std::string former = TextAt(saved.run(), field), value = TextAt(run, field);
    if (former != value) changes.push_back({saved.step(), field, former, value});
  }
  return changes;
}

void AdoptSchedule(const config::Run& saved, const std::vector<std::string>& changed,
                   config::Run* run) {
  config::Schedule& schedule = *run->mutable_schedule();
  if (schedule.decay_steps() != run->steps()) return;  // set by the user
  if (IsIn(changed, "schedule.decay_steps")) return;
  const bool warmup_too = HasDerivedWarmup(saved.schedule()) && HasDerivedWarmup(schedule) &&
                          !IsIn(changed, "schedule.warmup_steps");
  schedule.set_decay_steps(saved.schedule().decay_steps());
  if (warmup_too) schedule.set_warmup_steps(saved.schedule().warmup_steps());
}

std::string ScheduleNote(const config::Run& given, const config::Run& adopted) {
  const int64_t end = adopted.schedule().decay_steps();
  if (given.schedule().decay_steps() == end) return "";
  return absl::StrCat(
      "schedule.decay_steps stays ", end, " as in the checkpoint; with steps = ", given.steps(),
      given.steps() < end ? " the run ends before the learning rate reaches schedule.min_lr"
                          : absl::StrCat(" the steps after step ", end,
                                         " use schedule.min_lr, unless --change "
                                         "schedule.decay_steps=",
                                         given.steps(), " is given"));
}

std::string OrderNote(const std::string& folder, const config::Manifest& saved,
                      const config::Data& data) {
  const int version = OrderVersion(data, saved.data().order_version());
  if (version == kOrderVersion) return "";
  return absl::StrCat(folder, ": data.order = MEGATRON: the run began with version ", version,
                      " of the order and keeps it; new runs use version ", kOrderVersion,
                      ", which decides ties between datasets as Megatron-Core does");
}

absl::Status CheckSameRun(const std::string& folder, const config::Manifest& saved,
                          const config::Run& run, const std::vector<std::string>& changed) {
  if (run.steps() < saved.step()) {
    return absl::InvalidArgumentError(absl::StrCat(
        folder, ": resume refused: steps: found ", run.steps(), ", but the checkpoint is of step ",
        saved.step(), "; set it to at least ", saved.step(), ", or ", kNewRun));
  }
  std::vector<std::string> changes;
  bool may_change = true;  // all of them
  for (const std::string& path : FieldPaths(run)) {
    const std::string before = TextAt(saved.run(), path), now = TextAt(run, path);
    if (before == now || IsFree(run, path) || IsIn(changed, path)) continue;
    if (path == "pool.router_c" && static_cast<float>(run.pool().router_c()) == saved.router_c()) {
      continue;  // the estimate that the checkpoint was trained with
    }
    may_change = may_change && IsIn(kChangeable, path);
    changes.push_back(absl::StrCat(path, " = ", now, " (the checkpoint has ", before, ")"));
  }
  if (changes.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(folder, ": resume refused: ", absl::StrJoin(changes, ", "),
                   "; use the values of the checkpoint, ",
                   may_change ? "resume with --change FIELD=VALUE, " : "", "or ", kNewRun));
}

absl::Status CheckSameData(const std::string& folder, const config::Manifest& saved,
                           const std::vector<DatasetIdentity>& data) {
  const auto& datasets = saved.data().datasets();
  std::string change;
  if (datasets.size() != static_cast<int>(data.size())) {
    change = absl::StrCat("found ", data.size(), " datasets; the checkpoint has ", datasets.size());
  }
  for (int i = 0; change.empty() && i < datasets.size(); ++i) {
    change = DataChange(datasets[i], data[i]);
  }
  if (change.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(folder, ": resume refused: other data: ", change,
                                                 "; restore the data, or ", kNewRun));
}

std::string LocalStatisticsWarning(const config::Manifest& saved, const config::Run& run,
                                   int ranks) {
  const int64_t before = MicroBatch(saved.run(), saved.ranks()), now = MicroBatch(run, ranks);
  if (!HasLocalLoss(run) || (before == now && saved.ranks() == ranks)) return "";
  return absl::StrCat("statistics LOCAL: the balance losses now use micro-batches of ", now,
                      " sequences on ", ranks, " ranks; up to step ", saved.step(), " they used ",
                      before, " on ", saved.ranks(),
                      ", so results differ from those of an unchanged run");
}

}  // namespace unipool
