// The manifest of a checkpoint folder as a file: written last, sealed with a hash of itself, and
// checked in every field when it is read, so that what follows can rely on its tables.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "configs/checkpoint.pb.h"

namespace unipool {

constexpr int kCheckpointVersion = 4;
constexpr char kManifestName[] = "manifest.textproto";

// "step_00001000".
std::string CheckpointName(int64_t step);

// FOLDER/manifest.textproto, brought to the disk.
absl::Status WriteManifest(const std::string& folder, const config::Manifest& manifest);

// DATA_LOSS, naming the file and what was found, where the manifest is not as it was written, or
// where its tables do not hold every element of every parameter and moment exactly once.
absl::StatusOr<config::Manifest> ReadManifest(const std::string& folder);

// Elements of a stored tensor.
int64_t NumElements(const config::Manifest::StoredTensor& tensor);

}  // namespace unipool
