#include "runtime/files.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "runtime/status.h"

namespace unipool {
namespace {

absl::Status FileError(const std::string& path, const char* what, int error) {
  return absl::FailedPreconditionError(absl::StrCat(path, ": ", what, ": ", std::strerror(error)));
}

absl::Status WriteAll(const std::string& path, int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return FileError(path, "cannot be written", errno);
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (fsync(fd) != 0) return FileError(path, "cannot be synced", errno);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<bool> Exists(const std::string& path) {
  std::error_code error;
  const bool exists = std::filesystem::exists(path, error);
  if (!error) return exists;
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": cannot be looked up: ", error.message()));
}

absl::Status RemoveTree(const std::string& path) {
  std::error_code error;
  std::filesystem::remove_all(path, error);
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": cannot be removed: ", error.message()));
}

absl::Status Rename(const std::string& from, const std::string& to) {
  return rename(from.c_str(), to.c_str()) == 0 ? absl::OkStatus()
                                               : FileError(to, "cannot be replaced", errno);
}

absl::Status MakeFolders(const std::string& path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": the folder cannot be made: ", error.message()));
}

absl::Status CheckWritable(const std::string& path) {
  std::error_code error;
  if (path.empty() || std::filesystem::is_directory(path, error)) {
    return absl::FailedPreconditionError(
        absl::StrCat("\"", path, "\": cannot be written: not a file; give the path of a file"));
  }
  const std::string temporary = path + ".tmp";
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(path, "cannot be written", errno);
  close(fd);
  unlink(temporary.c_str());
  return absl::OkStatus();
}

absl::Status WriteFileAtomically(const std::string& path, absl::string_view text) {
  const std::string temporary = path + ".tmp";
  const int fd = open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return FileError(temporary, "cannot be written", errno);
  absl::Status status = WriteAll(temporary, fd, text);
  close(fd);
  if (status.ok() && rename(temporary.c_str(), path.c_str()) != 0) {
    status = FileError(path, "cannot be replaced", errno);
  }
  if (!status.ok()) unlink(temporary.c_str());
  return status;
}

absl::Status SyncFolder(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return FileError(path, "cannot be opened", errno);
  const int result = fsync(fd);
  const int error = errno;
  close(fd);
  return result == 0 ? absl::OkStatus() : FileError(path, "cannot be synced", error);
}

}  // namespace unipool
