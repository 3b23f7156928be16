#include "runtime/files.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
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

// Closes a file descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  const int fd_;
};

// OK for a regular file and for a pipe; other kinds have no end, or are no files of bytes.
absl::Status CheckKind(const std::string& path, const struct stat& info) {
  if (S_ISREG(info.st_mode) || S_ISFIFO(info.st_mode)) return absl::OkStatus();
  const char* kind = S_ISDIR(info.st_mode)    ? "a folder"
                     : S_ISSOCK(info.st_mode) ? "a socket"
                                              : "a device";
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": is ", kind, "; give the path of a file"));
}

// Waits until a read does not block.
absl::Status AwaitInput(const std::string& path, int fd) {
  constexpr int kPatienceMs = 30'000;
  pollfd entry = {.fd = fd, .events = POLLIN, .revents = 0};
  int ready = 0;
  do {
    ready = poll(&entry, 1, kPatienceMs);
  } while (ready < 0 && errno == EINTR);
  if (ready > 0) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      path, ": nothing was written to this pipe for 30 s; check the program that writes it"));
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

absl::Status SystemError(int error, absl::string_view message) {
  absl::Status status = absl::ErrnoToStatus(error, message);
  if (error == EFBIG) {
    return absl::ResourceExhaustedError(
        absl::StrCat(status.message(), "; raise the limit on the size of files (ulimit -f)"));
  }
  if (error == ELOOP) return absl::FailedPreconditionError(status.message());
  switch (status.code()) {
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kOutOfRange:
      return absl::UnknownError(status.message());
    default:
      return status;
  }
}

absl::StatusOr<bool> Exists(const std::string& path) {
  std::error_code error;
  const bool exists = std::filesystem::exists(path, error);
  if (!error) return exists;
  return absl::FailedPreconditionError(
      absl::StrCat(path, ": cannot be looked up: ", error.message()));
}

absl::StatusOr<std::string> ReadSmallFile(const std::string& path, int64_t max_bytes) {
  // Without O_NONBLOCK, a pipe that nobody writes to would block here.
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  struct stat info = {};
  if (file.get() < 0 || fstat(file.get(), &info) != 0) {
    const int error = errno;
    const std::string line =
        absl::StrCat(path, ": cannot be read: ", std::strerror(error), "; check the path");
    return error == ENOENT ? absl::NotFoundError(line) : absl::FailedPreconditionError(line);
  }
  RETURN_IF_ERROR(CheckKind(path, info));
  std::string text;
  while (true) {
    if (static_cast<int64_t>(text.size()) > max_bytes || info.st_size > max_bytes) {
      return absl::FailedPreconditionError(absl::StrCat(
          path, ": larger than ", max_bytes, " bytes, the maximum here; check the path"));
    }
    if (S_ISFIFO(info.st_mode)) RETURN_IF_ERROR(AwaitInput(path, file.get()));
    char block[1 << 16];
    const ssize_t bytes = read(file.get(), block, sizeof(block));
    if (bytes == 0) return text;
    if (bytes > 0) {
      text.append(block, static_cast<size_t>(bytes));
    } else if (errno != EINTR && errno != EAGAIN) {
      return FileError(path, "cannot be read", errno);
    }
  }
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
