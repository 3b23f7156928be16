// Loads the config of a command and logs the warnings about it on the first rank.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launch/config/messages.h"

namespace unipool {

// LoadRunConfig and OverrideRunConfig of launch/config/run_config.h. May be called before MPI is
// initialized.
absl::StatusOr<config::Run> LoadRunAndWarn(const std::string& file,
                                           const std::vector<std::string>& overrides);
absl::StatusOr<config::Run> OverrideRunAndWarn(const config::Run& run, const std::string& source,
                                               const std::vector<std::string>& overrides);

}  // namespace unipool
