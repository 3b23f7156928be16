// Opens files that a user names as input. Only regular files and pipes are read, because a device
// such as /dev/zero never ends.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace unipool {

// INVALID_ARGUMENT names the path and what it is unless it is a regular file or a pipe; errors of
// the system say "cannot open".
absl::Status CheckInput(const std::string& path);

// Whether the path is a pipe, which can be read once, by one process.
bool IsPipe(const std::string& path);

// CheckInput, and a file descriptor open for reading, which the caller closes.
absl::StatusOr<int> OpenInput(const std::string& path);

}  // namespace unipool
