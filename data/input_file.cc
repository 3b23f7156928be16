#include "data/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "absl/strings/str_cat.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

const char* KindOf(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

absl::Status CannotOpen(const std::string& path) {
  return SystemError(errno, absl::StrCat(path, ": cannot open"));
}

}  // namespace

absl::Status CheckInput(const std::string& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) != 0) return CannotOpen(path);
  if (S_ISREG(info.st_mode) || S_ISFIFO(info.st_mode)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": ", KindOf(info.st_mode), "; expected a file or a pipe"));
}

bool IsPipe(const std::string& path) {
  struct stat info = {};
  return stat(path.c_str(), &info) == 0 && S_ISFIFO(info.st_mode);
}

absl::StatusOr<int> OpenInput(const std::string& path) {
  // Checked before opening, which has effects on some devices.
  RETURN_IF_ERROR(CheckInput(path));
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return CannotOpen(path);
  return fd;
}

}  // namespace unipool
