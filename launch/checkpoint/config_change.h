// Checks which changes of config, data and layout a run may resume with.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/config/corpus.h"
#include "launch/config/messages.h"

namespace unipool {

// INVALID_ARGUMENT, with the reason and the fields that may change, unless `train --change` may
// change each of `fields` when a run resumes.
absl::Status CheckChangeable(const std::vector<std::string>& fields);

// The changes of `saved`, and after them those of `fields` in which `run` differs from `saved`.
std::vector<ConfigChange> ChangesOf(const config::Manifest& saved, const config::Run& run,
                                    const std::vector<std::string>& fields);

// If schedule.decay_steps of `run` was derived from `steps`, replaces it, and a derived warmup, by
// the values of `saved`. So a run that is extended, once or several times, keeps the learning rates
// of the steps before. Leaves the fields of `changed`, which the user has given for this resume.
void AdoptSchedule(const config::Run& saved, const std::vector<std::string>& changed,
                   config::Run* run);

// One line for the user if AdoptSchedule changed the schedule of `given`; else "".
std::string ScheduleNote(const config::Run& given, const config::Run& adopted);

// One line for the user if a run continues with a former order of its data (OrderVersion in
// launch/config/corpus.h) because `saved` began with it; else "". `folder` is the checkpoint's.
std::string OrderNote(const std::string& folder, const config::Manifest& saved,
                      const config::Data& data);

// INVALID_ARGUMENT if `run` has fewer steps than the checkpoint has finished, or if fields differ
// that may not change and are not in `changed`. The message lists all of these fields with both
// values. `folder` is the checkpoint's.
absl::Status CheckSameRun(const std::string& folder, const config::Manifest& saved,
                          const config::Run& run, const std::vector<std::string>& changed);

// INVALID_ARGUMENT if `data` has other content than the data of the checkpoint. The message names
// the file that differs and both contents. `folder` is the checkpoint's.
absl::Status CheckSameData(const std::string& folder, const config::Manifest& saved,
                           const std::vector<DatasetIdentity>& data);

// One line for the user if balance losses use LOCAL statistics and the micro-batches they see
// change when `run` resumes on `ranks` ranks; else "".
std::string LocalStatisticsWarning(const config::Manifest& saved, const config::Run& run,
                                   int ranks);

}  // namespace unipool
