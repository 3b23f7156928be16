// Flags that several commands share, and the config overrides that they stand for.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launch/commands/command_line.h"

namespace unipool {

Flag ConfigFlag();
Flag SetFlag();
Flag DeviceFlag();
Flag ThreadsFlag();
Flag HelpFlag();

// The overrides of a run's config that --set, --threads and --device give, as "FIELD=VALUE".
// INVALID_ARGUMENT if --device has another value than auto, cpu or cuda.
absl::StatusOr<std::vector<std::string>> RunOverrides(const CommandLine& line);

}  // namespace unipool
