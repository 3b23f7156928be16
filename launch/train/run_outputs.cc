#include "launch/train/run_outputs.h"

#include <glog/logging.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

bool IsSetAndNotZero(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && absl::string_view(value) != "0";
}

absl::StatusOr<std::unique_ptr<RunLock>> LockFolder(const RunFolder& folder) {
  const bool is_repeated = IsRestart() || IsSetAndNotZero("SLURM_RESTART_COUNT");
  return RunLock::Acquire(folder, is_repeated ? absl::Seconds(120) : absl::Seconds(5));
}

// The records of a run that never saved a checkpoint are kept under another name.
absl::StatusOr<std::unique_ptr<MetricsFile>> OpenMetrics(const std::string& path,
                                                         const RunOutputsOptions& options) {
  if (options.resumed_from >= 0) return MetricsFile::Resume(path, options.resumed_from);
  ASSIGN_OR_RETURN(const bool exists, Exists(path));
  if (exists && options.mode != StartMode::kReplace) {
    LOG(WARNING) << path << " is of a run that saved no checkpoint; it is kept as " << path
                 << ".old";
    RETURN_IF_ERROR(Rename(path, path + ".old"));
  }
  return MetricsFile::Create(path);
}

absl::StatusOr<RunOutputs> FillRunFolder(const RunFolder& folder,
                                         const RunOutputsOptions& options) {
  RunOutputs outputs;
  RETURN_IF_ERROR(MakeFolders(folder.path()));
  if (options.mode == StartMode::kReplace) {
    RETURN_IF_ERROR(RemoveTree(folder.checkpoints()));
    RETURN_IF_ERROR(RemoveTree(folder.loads()));
  }
  RETURN_IF_ERROR(WriteFileAtomically(folder.config(), options.config_text));
  ASSIGN_OR_RETURN(outputs.metrics, OpenMetrics(folder.metrics(), options));
  RETURN_IF_ERROR(MakeFolders(folder.log()));
  RETURN_IF_ERROR(MakeFolders(folder.checkpoints()));
  return outputs;
}

// Locks a folder that did not exist when this run began.
absl::StatusOr<std::unique_ptr<RunLock>> CreateAndLock(const RunFolder& folder) {
  RETURN_IF_ERROR(MakeFolders(folder.path()));
  ASSIGN_OR_RETURN(std::unique_ptr<RunLock> lock, LockFolder(folder));
  ASSIGN_OR_RETURN(const bool is_run, Exists(folder.config()));
  if (!is_run) return lock;
  return absl::FailedPreconditionError(
      absl::StrCat(folder.path(),
                   ": another run has just been started in this folder; run the "
                   "command again to resume it, or choose another --run-dir"));
}

}  // namespace

bool IsRestart() { return IsSetAndNotZero("UNIPOOL_RESTART"); }

absl::StatusOr<std::unique_ptr<RunLock>> LockExistingFolder(const RunFolder& folder) {
  ASSIGN_OR_RETURN(const bool exists, Exists(folder.path()));
  if (!exists) return nullptr;
  return LockFolder(folder);
}

absl::Status CheckNewRun(const RunFolder& folder, StartMode mode) {
  ASSIGN_OR_RETURN(const bool is_run, Exists(folder.config()));
  for (const std::string& path : {folder.loads(), folder.checkpoints()}) {
    ASSIGN_OR_RETURN(const bool exists, Exists(path));
    if (!exists || is_run || mode != StartMode::kReplace) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(path, " exists, but ", folder.config(),
                     " does not: this is not a run folder, so --force replaces nothing in it; "
                     "choose another --run-dir"));
  }
  for (const std::string& path : {folder.metrics(), folder.checkpoints()}) {
    ASSIGN_OR_RETURN(const bool exists, Exists(path));
    if (!exists || mode != StartMode::kNew) continue;
    return absl::FailedPreconditionError(
        absl::StrCat(folder.path(), " already holds a run (", path,
                     "); choose another --run-dir, or replace the run with --force"));
  }
  return absl::OkStatus();
}

absl::Status CheckRunFolder(const RunFolder& folder) {
  std::error_code error;
  const auto refused = [](const std::string& path, const char* found, const char* wanted) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": is ", found, ", but the run writes ", wanted,
                     " of this name; remove it, or choose another --run-dir"));
  };
  for (const std::string& path : {folder.config(), folder.metrics(), folder.latest()}) {
    const std::filesystem::file_status status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status) || std::filesystem::is_regular_file(status)) continue;
    const bool is_folder = std::filesystem::is_directory(status);
    return refused(path, is_folder ? "a folder" : "no regular file", "a file");
  }
  for (const std::string& path :
       {folder.path(), folder.checkpoints(), folder.loads(), folder.log()}) {
    const std::filesystem::file_status status = std::filesystem::status(path, error);
    if (!std::filesystem::exists(status)) continue;
    if (!std::filesystem::is_directory(status)) return refused(path, "a file", "a folder");
    if (access(path.c_str(), W_OK) == 0) continue;
    return absl::FailedPreconditionError(absl::StrCat(path,
                                                      ": cannot be written: ", std::strerror(errno),
                                                      "; change its permissions, or choose another "
                                                      "--run-dir"));
  }
  return absl::OkStatus();
}

absl::StatusOr<RunOutputs> OpenRunOutputs(const RunFolder& folder, RunOutputsOptions options) {
  const bool existed = options.lock != nullptr;
  if (!existed) {
    ASSIGN_OR_RETURN(options.lock, CreateAndLock(folder));
  }
  absl::StatusOr<RunOutputs> outputs = FillRunFolder(folder, options);
  if (outputs.ok()) outputs->lock = std::move(options.lock);
  if (!outputs.ok() && !existed) RemoveTree(folder.path()).IgnoreError();
  return outputs;
}

}  // namespace unipool
