// Prepares the run folder for a run, and holds what the run keeps open in it. For the first rank.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/checkpoint/run_folder.h"
#include "launch/train/metrics.h"
#include "launch/train/run_lock.h"

namespace unipool {

// How a run treats what is already in its folder.
enum class StartMode {
  kResume,   // from the newest good checkpoint, if there is one
  kNew,      // --fresh: refuses a folder that holds a run
  kReplace,  // --force: removes the run that the folder holds
};

// Returns true if launch/mpirun.sh has restarted this job. A restart always resumes.
bool IsRestart();

// Acquires the lock of an existing folder; null if there is none yet. A requeued or restarted job
// waits longer: the system, or another host, may still have to notice that its predecessor ended.
absl::StatusOr<std::unique_ptr<RunLock>> LockExistingFolder(const RunFolder& folder);

// FAILED_PRECONDITION if `mode` does not allow a new run in this folder.
absl::Status CheckNewRun(const RunFolder& folder, StartMode mode);

// FAILED_PRECONDITION if the run could not write to this folder: one of its files is a folder
// there, one of its folders is a file, or a folder refuses writes. Call it before training, so that
// nothing is lost at the first save.
absl::Status CheckRunFolder(const RunFolder& folder);

struct RunOutputs {
  std::unique_ptr<RunLock> lock;
  std::unique_ptr<MetricsFile> metrics;
};

struct RunOutputsOptions {
  std::string config_text;  // written to the folder
  StartMode mode = StartMode::kResume;
  int64_t resumed_from = -1;      // step of the checkpoint, -1 for a new run
  std::unique_ptr<RunLock> lock;  // from LockExistingFolder
};

// Creates the folder and its parts, removes those of a replaced run, and opens the metrics file. On
// an error a folder that did not exist before is removed again.
absl::StatusOr<RunOutputs> OpenRunOutputs(const RunFolder& folder, RunOutputsOptions options);

}  // namespace unipool
