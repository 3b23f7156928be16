// What may differ between the config of a checkpoint and that of the run that goes on from it.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "configs/checkpoint.pb.h"
#include "configs/run.pb.h"

namespace unipool {

// The saved schedule, where that of `run` was derived from its `steps`: more steps do not change
// the rates of those that are behind, however often a run is made longer.
void AdoptSchedule(const config::Run& saved, config::Run* run);

// INVALID_ARGUMENT, naming `folder`, every field that differs and may not, and both values.
absl::Status CheckSameRun(const std::string& folder, const config::Manifest& saved,
                          const config::Run& run);

}  // namespace unipool
