#include "launch/checkpoint/config_change.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launch/config/config_fields.h"

namespace unipool {
namespace {

// Fields, or messages with all their fields, that say how long, where and how fast, not what.
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

constexpr char kNewRun[] = "a new run (--run-dir, or --force in place of this one)";

bool IsFree(const config::Run& run, const std::string& path) {
  // Megatron's order of the data is made for a number of steps.
  if (path == "steps" && run.data().order() == config::Data::MEGATRON) return false;
  return std::any_of(kFree.begin(), kFree.end(), [&](absl::string_view free) {
    return path == free || absl::StartsWith(path, absl::StrCat(free, "."));
  });
}

// Of a warmup that was not given.
bool HasDerivedWarmup(const config::Schedule& schedule) {
  return schedule.warmup_steps() == std::max<int64_t>(1, schedule.decay_steps() / 100);
}

// Of a dataset; the file that tells two apart comes first.
std::string ContentText(int64_t documents, int64_t tokens, const std::string& file,
                        const std::string& hash) {
  return absl::StrCat(documents, " documents, ", tokens, " tokens, xxh3_128 of the ", file, " ",
                      hash);
}

// "" where they are the same.
std::string DataChange(const config::Manifest::Dataset& saved, const DatasetIdentity& found) {
  const bool same_index = saved.documents() == found.documents && saved.tokens() == found.tokens &&
                          saved.idx_xxh3_128() == found.index_hash;
  if (same_index && saved.bin_sample_xxh3_128() == found.token_sample_hash) return "";
  const char* suffix = same_index ? ".bin" : ".idx";
  const std::string expected = same_index ? saved.bin_sample_xxh3_128() : saved.idx_xxh3_128();
  const std::string seen = same_index ? found.token_sample_hash : found.index_hash;
  const std::string what = same_index ? "sampled .bin" : ".idx";
  return absl::StrCat(found.prefix, suffix, ": expected ",
                      ContentText(saved.documents(), saved.tokens(), what, expected), ", found ",
                      ContentText(found.documents, found.tokens, what, seen));
}

int64_t MicroBatch(const config::Run& run, int ranks) {
  const int64_t share = (run.data().global_batch() + ranks - 1) / ranks;
  return run.data().micro_batch() == 0 ? share : std::min(share, run.data().micro_batch());
}

// Whether a balance loss is made of what one rank's micro-batch chose.
bool HasLocalLoss(const config::Run& run) {
  const config::Pool& pool = run.pool();
  if (run.model().ffn_kind() != config::Model::MOE) return false;
  return (pool.statistics() == config::Pool::LOCAL && pool.pool_loss() > 0) ||
         (pool.layer_statistics() == config::Pool::LOCAL && pool.layer_loss() > 0);
}

}  // namespace

void AdoptSchedule(const config::Run& saved, config::Run* run) {
  config::Schedule& schedule = *run->mutable_schedule();
  if (schedule.decay_steps() != run->steps()) return;  // it was given
  const bool warmup_too = HasDerivedWarmup(saved.schedule()) && HasDerivedWarmup(schedule);
  schedule.set_decay_steps(saved.schedule().decay_steps());
  if (warmup_too) schedule.set_warmup_steps(saved.schedule().warmup_steps());
}

std::string ScheduleNote(const config::Run& given, const config::Run& adopted) {
  const int64_t end = adopted.schedule().decay_steps();
  if (given.schedule().decay_steps() == end) return "";
  return absl::StrCat("schedule.decay_steps = ", end,
                      " of the checkpoint stays, though steps = ", given.steps(),
                      ": the steps after it have schedule.min_lr");
}

absl::Status CheckSameRun(const std::string& folder, const config::Manifest& saved,
                          const config::Run& run) {
  if (run.steps() < saved.step()) {
    return absl::InvalidArgumentError(absl::StrCat("steps = ", run.steps(), ": ", folder,
                                                   " is after step ", saved.step(),
                                                   ": expected at least that, or ", kNewRun));
  }
  std::vector<std::string> changes;
  for (const std::string& path : FieldPaths(run)) {
    const std::string before = TextAt(saved.run(), path), now = TextAt(run, path);
    if (before == now || IsFree(run, path)) continue;
    if (path == "pool.router_c" && static_cast<float>(run.pool().router_c()) == saved.router_c()) {
      continue;  // stated where it was estimated before
    }
    changes.push_back(absl::StrCat(path, " = ", now, " (the checkpoint has ", before, ")"));
  }
  if (changes.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(folder, ": cannot go on with another ", absl::StrJoin(changes, ", "),
                   ": expected the values of the checkpoint, or ", kNewRun));
}

absl::Status CheckSameData(const std::string& folder, const config::Manifest& saved,
                           const std::vector<DatasetIdentity>& data) {
  const auto& datasets = saved.data().datasets();
  std::string change;
  if (datasets.size() != static_cast<int>(data.size())) {
    change = absl::StrCat("expected ", datasets.size(), " datasets, found ", data.size());
  }
  for (int i = 0; change.empty() && i < datasets.size(); ++i) {
    change = DataChange(datasets[i], data[i]);
  }
  if (change.empty()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(folder, ": cannot go on with other data: ", change,
                                                 "; ", kNewRun, " takes any data"));
}

std::string LocalStatisticsWarning(const config::Manifest& saved, const config::Run& run,
                                   int ranks) {
  const int64_t before = MicroBatch(saved.run(), saved.ranks()), now = MicroBatch(run, ranks);
  if (!HasLocalLoss(run) || (before == now && saved.ranks() == ranks)) return "";
  return absl::StrCat("statistics LOCAL: the balance losses now see micro-batches of ", now,
                      " sequences on ", ranks, " ranks, until step ", saved.step(), " of ", before,
                      " on ", saved.ranks(), ": they are not those of a run that was not changed");
}

}  // namespace unipool
