#include "launch/checkpoint/config_change.h"

#include <algorithm>
#include <array>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launch/config_fields.h"

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

}  // namespace

void AdoptSchedule(const config::Run& saved, config::Run* run) {
  config::Schedule& schedule = *run->mutable_schedule();
  if (schedule.decay_steps() != run->steps()) return;  // it was given
  const bool warmup_too = HasDerivedWarmup(saved.schedule()) && HasDerivedWarmup(schedule);
  schedule.set_decay_steps(saved.schedule().decay_steps());
  if (warmup_too) schedule.set_warmup_steps(saved.schedule().warmup_steps());
}

absl::Status CheckSameRun(const std::string& folder, const config::Manifest& saved,
                          const config::Run& run) {
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
                   ": expected the values of the checkpoint, or a new run (--fresh, --run-dir)"));
}

}  // namespace unipool
