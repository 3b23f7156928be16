// The state of a run, read from its folder by any process.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "runtime/json.h"

namespace unipool {

// An object with these members; those of unknown value are absent:
//   run         the folder
//   state       running, finished, stopped, failed, killed or unknown
//   reason      why it stopped or failed
//   holder      the process that runs it, as "process 7 on node3"
//   since       time of the newest start or end (ISO 8601, UTC)
//   step, steps the last recorded step, and the steps of the config
//   loss        of that step, nats per token
//   eta_seconds estimated time until the last step, if it is running
//   record_age_seconds  time since metrics.jsonl was written
//   checkpoint  folder of the newest checkpoint whose manifest is good
// FAILED_PRECONDITION if the folder holds no run.
absl::StatusOr<Json> ReadRunStatus(const std::string& run_dir);

// One line for people.
std::string StatusLine(const Json& status);

}  // namespace unipool
