// The folder of a run's checkpoints: `latest`, step_XXXXXXXX, and step_XXXXXXXX.tmp until one is
// whole. Names, and what may be done to them; the contents are others' work. For one rank.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace unipool {

// CHECKPOINTS/step_00001000 and the same with .tmp.
std::string CheckpointPath(const std::string& checkpoints, int64_t step);
std::string UnfinishedPath(const std::string& checkpoints, int64_t step);

// 1000 of "step_00001000"; -1 of other names.
int64_t StepOfName(absl::string_view name);

// Gives the unfinished folder of `step`, all of whose files are on the disk, its final name, and
// makes `latest` name it. An older folder of that step is replaced in one move. On an error nothing
// new is left under a final name.
absl::Status Publish(const std::string& checkpoints, int64_t step);

// Steps with a finished folder, ascending; none where there is no such folder.
absl::StatusOr<std::vector<int64_t>> FinishedSteps(const std::string& checkpoints);
// What to try when the newest good checkpoint is wanted, best first: the step that `latest` names,
// the earlier ones from the newest to the oldest, then later ones. A `latest` that is missing, or
// names no folder, is told of in `warning`, and the newest comes first.
absl::StatusOr<std::vector<int64_t>> StepsToTry(const std::string& checkpoints,
                                                std::string* warning);

// Takes away what interrupted writers left.
absl::Status SweepUnfinished(const std::string& checkpoints);

// Takes away finished folders up to step `newest`, which is known to be good, but for the newest
// `keep_last` of them (0 = all stay) and every step that `keep_every` (0 = none) divides.
absl::Status RemoveOld(const std::string& checkpoints, int64_t newest, int64_t keep_last,
                       int64_t keep_every);

}  // namespace unipool
