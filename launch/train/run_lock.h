// One run a folder: a job that is submitted twice, or requeued while its ranks still end, must not
// write beside itself.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace unipool {

// Held by a run's first rank from before it reads the folder to its end, however it ends: the lock
// is the system's, on FOLDER/.lock, which is gone with it.
class RunLock {
 public:
  // `folder` is there. Waits for `patience` where another run holds it, and says so where that is
  // long; then FAILED_PRECONDITION, naming that one's process. A file system without locks is a
  // warning.
  static absl::StatusOr<std::unique_ptr<RunLock>> Take(const std::string& folder,
                                                       absl::Duration patience);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  RunLock(std::string path, int file) : path_(std::move(path)), file_(file) {}

  const std::string path_;
  const int file_;  // -1 where there are no locks
};

}  // namespace unipool
