// Small files written so that a reader sees the old one or the new one, never a part.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace unipool {

// Whether something is there. An error where the system will not tell.
absl::StatusOr<bool> Exists(const std::string& path);
// rm -rf; a path that is not there is no error.
absl::Status RemoveTree(const std::string& path);
// Replaces what is at `to`.
absl::Status Rename(const std::string& from, const std::string& to);
// mkdir -p. FAILED_PRECONDITION with the path and the reason.
absl::Status MakeFolders(const std::string& path);
// Whether WriteFileAtomically would find its place, before the work whose result it writes.
absl::Status CheckWritable(const std::string& path);
// Writes beside `path`, syncs, renames.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view text);
// Makes renames inside a folder durable.
absl::Status SyncFolder(const std::string& path);

}  // namespace unipool
