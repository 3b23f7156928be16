// Names and operations of the folder with a run's checkpoints, CHECKPOINTS: the text file `latest`,
// finished checkpoints step_XXXXXXXX and unfinished ones step_XXXXXXXX.tmp. pieces.h and manifest.h
// write their contents. Called on one rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace unipool {

// CHECKPOINTS/step_00001000, and CHECKPOINTS/step_00001000.tmp.
std::string CheckpointPath(const std::string& checkpoints, int64_t step);
std::string UnfinishedPath(const std::string& checkpoints, int64_t step);

// The step in a name: 1000 for "step_00001000", -1 for a name that is no checkpoint's.
int64_t StepOfName(absl::string_view name);

// Renames the unfinished folder of `step` to its final name and then writes that name to `latest`.
// All files of the folder must be synced to disk. A finished folder of the same step is replaced
// atomically. After an error no new finished folder remains.
absl::Status Publish(const std::string& checkpoints, int64_t step);

// Steps with a finished folder, ascending; empty if CHECKPOINTS does not exist.
absl::StatusOr<std::vector<int64_t>> FinishedSteps(const std::string& checkpoints);
// Steps in the order in which a search for the newest good checkpoint should try them: the step in
// `latest`, earlier ones in descending order, then later ones in descending order. If `latest` is
// missing or invalid, all steps in descending order, and `warning` is set to one line.
absl::StatusOr<std::vector<int64_t>> StepsToTry(const std::string& checkpoints,
                                                std::string* warning);

// Removes unfinished checkpoints, which interrupted saves left.
absl::Status SweepUnfinished(const std::string& checkpoints);

// Removes finished checkpoints up to step `newest`, which must be good, except for the last
// `keep_last` of them (0 keeps all) and for the multiples of `keep_every` (0 means none). One whose
// manifest cannot be read does not count for `keep_last`, and is kept if a good one before it is.
absl::Status RemoveOld(const std::string& checkpoints, int64_t newest, int64_t keep_last,
                       int64_t keep_every);

}  // namespace unipool
