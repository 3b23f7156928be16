#include "launch/train/run_lock.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace unipool {
namespace {

std::string Holder(int file) {
  char text[256] = {};
  const ssize_t got = pread(file, text, sizeof(text) - 1, 0);
  return got > 0 ? absl::StrCat(" (", text, ")") : "";
}

void WriteHolder(int file) {
  char host[200] = {};
  gethostname(host, sizeof(host) - 1);
  const std::string text = absl::StrCat("process ", getpid(), " on ", host);
  if (ftruncate(file, 0) != 0 || pwrite(file, text.data(), text.size(), 0) < 0) return;
}

// The file that is locked may have been taken away, and another be there, since it was opened.
bool IsAt(const std::string& path, int file) {
  struct stat opened = {}, there = {};
  return fstat(file, &opened) == 0 && stat(path.c_str(), &there) == 0 &&
         opened.st_dev == there.st_dev && opened.st_ino == there.st_ino;
}

}  // namespace

absl::StatusOr<std::unique_ptr<RunLock>> RunLock::Take(const std::string& folder,
                                                       absl::Duration patience) {
  const std::string path = folder + "/.lock";
  const absl::Time until = absl::Now() + patience;
  bool told = false;
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
    const std::string holder = Holder(file);
    close(file);
    if (error != EWOULDBLOCK && error != EINTR) {
      LOG(WARNING) << path << ": no locks here (" << std::strerror(error)
                   << "): a second run in this folder would not be noticed";
      return std::unique_ptr<RunLock>(new RunLock(path, -1));
    }
    if (!told && patience > absl::Seconds(10)) {
      LOG(WARNING) << folder << ": another run is in it" << holder << "; waits up to "
                   << absl::FormatDuration(patience) << " for its end";
      told = true;
    }
    if (absl::Now() > until) {
      return absl::FailedPreconditionError(
          absl::StrCat(folder, ": another run is in it", holder,
                       "; expected its end, or another folder (--run-dir)"));
    }
    absl::SleepFor(absl::Milliseconds(100));
  }
}

RunLock::~RunLock() {
  if (file_ < 0) return;
  unlink(path_.c_str());
  close(file_);
}

}  // namespace unipool
