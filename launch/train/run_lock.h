// Ensures that only one run writes to a run folder, even if a job is submitted twice or requeued
// while its ranks are still ending.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "launch/checkpoint/run_folder.h"

namespace unipool {

// A lock of the operating system on the file .lock in the run folder. The first rank of a run holds
// it from before it reads the folder until it ends; the system releases it however the process
// ends.
class RunLock {
 public:
  // `folder` must exist. If another process holds the lock, waits for up to `timeout`, with a log
  // line if that is long; then FAILED_PRECONDITION, which names the process and its host. A file
  // system without locks is a warning and no error.
  static absl::StatusOr<std::unique_ptr<RunLock>> Acquire(const RunFolder& folder,
                                                          absl::Duration timeout);
  // The process that holds the lock, as "process 7 on node3"; "" if none does. Does not wait.
  static std::string Holder(const RunFolder& folder);
  ~RunLock();
  RunLock(const RunLock&) = delete;
  RunLock& operator=(const RunLock&) = delete;

 private:
  RunLock(std::string path, int file) : path_(std::move(path)), file_(file) {}

  const std::string path_;
  const int file_;  // -1 if the file system has no locks
};

}  // namespace unipool
