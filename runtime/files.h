// File operations that return absl::Status, and atomic replacement of small files: a reader sees
// either the old or the new content, never a part.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace unipool {

// The status of a failed system call: `message`, and the text of `error` (errno). It never has a
// code by which the program reports another end of a run: EFBIG, for example, is RESOURCE_EXHAUSTED
// as a full disk is, not OUT_OF_RANGE, which stands for divergence.
absl::Status SystemError(int error, absl::string_view message);

// Returns whether `path` exists, or an error if that cannot be determined.
absl::StatusOr<bool> Exists(const std::string& path);
// The whole content of a regular file, or of a pipe until it is closed, of at most `max_bytes`.
// NOT_FOUND if there is no file. FAILED_PRECONDITION, in one line with the path, if it is a folder,
// a socket or a device, if it is larger, or if nothing is written to a pipe for 30 s.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes);
// rm -rf; a missing path is not an error.
absl::Status RemoveTree(const std::string& path);
// Renames `from` to `to`; replaces an existing `to`.
absl::Status Rename(const std::string& from, const std::string& to);
// mkdir -p. Returns FAILED_PRECONDITION with the path and the reason on failure.
absl::Status MakeFolders(const std::string& path);
// Returns OK if WriteFileAtomically could create its temporary file beside `path`. Call it before
// the work whose result will be written.
absl::Status CheckWritable(const std::string& path);
// Writes a temporary file beside `path`, syncs it to disk, and renames it to `path`.
absl::Status WriteFileAtomically(const std::string& path, absl::string_view text);
// Makes renames inside a folder durable (fsync of the folder).
absl::Status SyncFolder(const std::string& path);

}  // namespace unipool
