// What may differ between a checkpoint, its config and its data, and the run that goes on from it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"
#include "launch/config/corpus.h"

namespace unipool {

// The saved schedule, where that of `run` was derived from its `steps`: more steps do not change
// the rates of those that are behind, however often a run is made longer.
void AdoptSchedule(const config::Run& saved, config::Run* run);

// A line where AdoptSchedule changed the schedule that `given` states; else "".
std::string ScheduleNote(const config::Run& given, const config::Run& adopted);

// INVALID_ARGUMENT where `run` has fewer steps than are trained; or, naming `folder`, every field
// that differs and may not, and both values.
absl::Status CheckSameRun(const std::string& folder, const config::Manifest& saved,
                          const config::Run& run);

// INVALID_ARGUMENT, naming `folder`, the file that is not the one it was, and both contents.
absl::Status CheckSameData(const std::string& folder, const config::Manifest& saved,
                           const std::vector<DatasetIdentity>& data);

// A line on how `run`, on `ranks`, differs in what LOCAL statistics see; "" where nothing does, or
// where no balance loss uses them.
std::string LocalStatisticsWarning(const config::Manifest& saved, const config::Run& run,
                                   int ranks);

}  // namespace unipool
