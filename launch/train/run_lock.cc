#include "launch/train/run_lock.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "runtime/clock.h"

namespace unipool {
namespace {

// The holder that the lock file names: "process 7 on node3".
std::string ReadHolder(int file) {
  char text[256] = {};
  const ssize_t got = pread(file, text, sizeof(text) - 1, 0);
  return got > 0 ? text : "another process";
}

void WriteHolder(int file) {
  char host[200] = {};
  gethostname(host, sizeof(host) - 1);
  const std::string text = absl::StrCat("process ", getpid(), " on ", host);
  if (ftruncate(file, 0) != 0 || pwrite(file, text.data(), text.size(), 0) < 0) return;
}

// Returns true if the open file is still the one at `path`: another process may have removed it,
// and created a new one, before this process locked it.
bool IsAt(const std::string& path, int file) {
  struct stat opened = {}, current = {};
  return fstat(file, &opened) == 0 && stat(path.c_str(), &current) == 0 &&
         opened.st_dev == current.st_dev && opened.st_ino == current.st_ino;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunLock>> RunLock::Acquire(const RunFolder& folder,
                                                          absl::Duration timeout) {
  const std::string path = folder.lock();
  const absl::Time deadline = SteadyNow() + timeout;
  bool logged = false;
  while (true) {
    const int file = open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (file < 0) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, ": cannot be written: ", std::strerror(errno)));
    }
    if (flock(file, LOCK_EX | LOCK_NB) == 0) {
      if (IsAt(path, file)) {
        WriteHolder(file);
        return std::unique_ptr<RunLock>(new RunLock(path, file));
      }
      close(file);
      continue;
    }
    const int error = errno;
    const std::string in_use =
        absl::StrCat(folder.path(), " is in use by ", ReadHolder(file), "; ");
    close(file);
    if (error != EWOULDBLOCK && error != EINTR) {
      LOG(WARNING) << path << ": this file system has no locks (" << std::strerror(error)
                   << "); a second run in this folder would not be noticed";
      return std::unique_ptr<RunLock>(new RunLock(path, -1));
    }
    if (SteadyNow() > deadline) {
      return absl::FailedPreconditionError(
          absl::StrCat(in_use, "wait for it to end or choose another --run-dir"));
    }
    if (!logged && timeout > absl::Seconds(10)) {
      LOG(WARNING) << in_use << "waiting up to " << absl::FormatDuration(timeout) << " for it";
      logged = true;
    }
    absl::SleepFor(absl::Milliseconds(100));
  }
}

std::string RunLock::Holder(const RunFolder& folder) {
  const int file = open(folder.lock().c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return "";
  const bool is_held = flock(file, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK;
  std::string holder = is_held ? ReadHolder(file) : "";
  close(file);
  return holder;
}

RunLock::~RunLock() {
  if (file_ < 0) return;
  unlink(path_.c_str());
  close(file_);
}

}  // namespace unipool
