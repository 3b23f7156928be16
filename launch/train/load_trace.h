// RUN/loads/: how many tokens each layer sends to each expert, as the run goes on; the format is in
// README.md.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "comm/load_statistics.h"

namespace unipool {

// Writes FOLDER/step_00001000.json with the counts of the last step that updated, all ranks.
// Nothing where there are none: before the first step, and for a dense model.
absl::Status WriteLoads(const std::string& folder, int64_t step, const LoadStatistics& statistics);

}  // namespace unipool
