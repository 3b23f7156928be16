#include "launch/checkpoint/folder.h"

#include <fcntl.h>
#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "launch/checkpoint/manifest.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr char kPrefix[] = "step_";
constexpr char kUnfinished[] = ".tmp";

absl::StatusOr<std::vector<std::string>> NamesIn(const std::string& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (auto at = std::filesystem::directory_iterator(folder, error);
       !error && at != std::filesystem::directory_iterator(); at.increment(error)) {
    names.push_back(at->path().filename().string());
  }
  if (!error || error == std::errc::no_such_file_or_directory) return names;
  return absl::FailedPreconditionError(
      absl::StrCat(folder, ": cannot be listed: ", error.message(), "; check its permissions"));
}

// Renames `from` to `to`. If `to` exists, exchanges the two names atomically and removes the old
// folder. On file systems without an atomic exchange, `to` is missing for a moment.
absl::Status Replace(const std::string& from, const std::string& to) {
  std::error_code ignored;
  if (std::filesystem::exists(to, ignored)) {
    if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) {
      return RemoveTree(from);
    }
    RETURN_IF_ERROR(RemoveTree(to));
  }
  if (rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      to, ": the finished checkpoint cannot be renamed to this name: ", std::strerror(errno)));
}

}  // namespace

std::string CheckpointPath(const std::string& checkpoints, int64_t step) {
  return absl::StrCat(checkpoints, "/", CheckpointName(step));
}

std::string UnfinishedPath(const std::string& checkpoints, int64_t step) {
  return CheckpointPath(checkpoints, step) + kUnfinished;
}

int64_t StepOfName(absl::string_view name) {
  int64_t step = -1;
  if (!absl::ConsumePrefix(&name, kPrefix) || !absl::SimpleAtoi(name, &step)) return -1;
  return absl::StrCat(kPrefix, name) == CheckpointName(step) ? step : -1;
}

absl::Status Publish(const std::string& checkpoints, int64_t step) {
  const std::string temporary = UnfinishedPath(checkpoints, step);
  const std::string folder = CheckpointPath(checkpoints, step);
  RETURN_IF_ERROR(SyncFolder(temporary));
  RETURN_IF_ERROR(Replace(temporary, folder));
  absl::Status status = SyncFolder(checkpoints);
  if (status.ok()) {
    status = WriteFileAtomically(checkpoints + "/latest", CheckpointName(step) + "\n");
  }
  if (status.ok()) return SyncFolder(checkpoints);
  RemoveTree(folder).IgnoreError();
  return status;
}

absl::StatusOr<std::vector<int64_t>> FinishedSteps(const std::string& checkpoints) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(checkpoints));
  std::vector<int64_t> steps;
  for (const std::string& name : names) {
    if (const int64_t step = StepOfName(name); step >= 0) steps.push_back(step);
  }
  std::sort(steps.begin(), steps.end());
  return steps;
}

absl::StatusOr<std::vector<int64_t>> StepsToTry(const std::string& checkpoints,
                                                std::string* warning) {
  ASSIGN_OR_RETURN(std::vector<int64_t> steps, FinishedSteps(checkpoints));
  std::reverse(steps.begin(), steps.end());
  if (steps.empty()) return steps;
  std::string line;
  std::ifstream file(checkpoints + "/latest");
  std::getline(file, line);
  const int64_t latest = StepOfName(line);
  if (std::find(steps.begin(), steps.end(), latest) == steps.end()) {
    *warning = absl::StrCat(checkpoints, "/latest: found '", line.substr(0, 80),
                            "', which names no checkpoint here; using the newest one, step ",
                            steps.front());
    return steps;
  }
  std::stable_partition(steps.begin(), steps.end(),
                        [latest](int64_t step) { return step <= latest; });
  return steps;
}

absl::Status SweepUnfinished(const std::string& checkpoints) {
  ASSIGN_OR_RETURN(const std::vector<std::string> names, NamesIn(checkpoints));
  for (const std::string& name : names) {
    absl::string_view step = name;
    if (!absl::ConsumeSuffix(&step, kUnfinished) || (StepOfName(step) < 0 && step != "latest")) {
      continue;
    }
    RETURN_IF_ERROR(RemoveTree(absl::StrCat(checkpoints, "/", name)));
  }
  return absl::OkStatus();
}

absl::Status RemoveOld(const std::string& checkpoints, int64_t newest, int64_t keep_last,
                       int64_t keep_every) {
  if (keep_last == 0) return absl::OkStatus();
  ASSIGN_OR_RETURN(std::vector<int64_t> steps, FinishedSteps(checkpoints));
  steps.erase(std::upper_bound(steps.begin(), steps.end(), newest), steps.end());
  std::reverse(steps.begin(), steps.end());
  int64_t good = 0;
  for (const int64_t step : steps) {
    const std::string folder = CheckpointPath(checkpoints, step);
    if (good < keep_last) {
      good += ReadManifest(folder).ok() ? 1 : 0;
    } else if (keep_every == 0 || step % keep_every != 0) {
      RETURN_IF_ERROR(RemoveTree(folder));
    }
  }
  return absl::OkStatus();
}

}  // namespace unipool
