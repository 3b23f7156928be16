// RUN/loads/: how many tokens each layer sends to each expert, over the course of a run. The format
// is described in launch/README.md.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "comm/load_statistics.h"

namespace unipool {

// Writes FOLDER/step_00001000.json with the counts over all ranks of the last step that updated the
// weights. Writes nothing if there are none: before the first step, and for a dense model.
absl::Status WriteLoads(const std::string& folder, int64_t step, const LoadStatistics& statistics);

}  // namespace unipool
