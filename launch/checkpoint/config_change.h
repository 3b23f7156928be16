// Checks which changes of config, data and layout a run may resume with.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launch/config/corpus.h"
#include "launch/config/messages.h"

namespace unipool {

// If schedule.decay_steps of `run` was derived from `steps`, replaces it, and a derived warmup, by
// the values of `saved`. So a run that is extended, once or several times, keeps the learning rates
// of the steps before.
void AdoptSchedule(const config::Run& saved, config::Run* run);

// One line for the user if AdoptSchedule changed the schedule of `given`; else "".
std::string ScheduleNote(const config::Run& given, const config::Run& adopted);

// One line for the user if a run continues with a former order of its data (OrderVersion in
// launch/config/corpus.h) because `saved` began with it; else "". `folder` is the checkpoint's.
std::string OrderNote(const std::string& folder, const config::Manifest& saved,
                      const config::Data& data);

// INVALID_ARGUMENT if `run` has fewer steps than the checkpoint has finished, or if fields differ
// that may not change. The message lists all of these fields with both values. `folder` is the
// checkpoint's.
absl::Status CheckSameRun(const std::string& folder, const config::Manifest& saved,
                          const config::Run& run);

// INVALID_ARGUMENT if `data` has other content than the data of the checkpoint. The message names
// the file that differs and both contents. `folder` is the checkpoint's.
absl::Status CheckSameData(const std::string& folder, const config::Manifest& saved,
                           const std::vector<DatasetIdentity>& data);

// One line for the user if balance losses use LOCAL statistics and the micro-batches they see
// change when `run` resumes on `ranks` ranks; else "".
std::string LocalStatisticsWarning(const config::Manifest& saved, const config::Run& run,
                                   int ranks);

}  // namespace unipool
