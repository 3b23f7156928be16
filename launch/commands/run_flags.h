// Flags that commands share, and the overrides of a run that they stand for.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launch/commands/command_line.h"

namespace unipool {

// --device of every command that computes.
Flag DeviceFlag();
// The overrides of a run that a command line gives: --set, --threads, --device. INVALID_ARGUMENT
// where a value is none.
absl::StatusOr<std::vector<std::string>> RunOverrides(const CommandLine& line);

}  // namespace unipool
