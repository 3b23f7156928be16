// Reads and writes FOLDER/manifest.textproto, the message config::Manifest. It is written after all
// other files of a checkpoint and ends with a hash of itself. ReadManifest checks every field, so
// callers may rely on the tables of files and tensors.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/config/messages.h"

namespace unipool {

constexpr int kCheckpointVersion = 4;
constexpr char kManifestName[] = "manifest.textproto";

// The folder name of a step: "step_00001000".
std::string CheckpointName(int64_t step);

// Writes the file atomically and syncs it to disk.
absl::Status WriteManifest(const std::string& folder, const config::Manifest& manifest);

// NOT_FOUND if there is no file. FAILED_PRECONDITION if a newer version wrote it. DATA_LOSS if its
// hash or version is wrong, a field is missing or out of range, or its tables do not hold every
// element of every parameter and moment exactly once; the message names the file and what was
// found. Former names of config fields are replaced by the present ones.
absl::StatusOr<config::Manifest> ReadManifest(const std::string& folder);

// Number of elements of a stored tensor.
int64_t NumElements(const config::Manifest_StoredTensor& tensor);

}  // namespace unipool
