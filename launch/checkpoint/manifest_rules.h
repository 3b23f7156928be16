// What the values of a manifest must satisfy, beside the tables of its files and tensors.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "launch/config/messages.h"

namespace unipool {

// Checks the config of the run, which must be resolved, the ranks, the counts and the number of
// stored elements against each other, so that no reader divides by zero, indexes past an end, or
// takes memory for a size that the files do not have. DATA_LOSS with `path`, the manifest's file,
// and the field.
absl::Status CheckManifestValues(const std::string& path, const config::Manifest& manifest);

}  // namespace unipool
