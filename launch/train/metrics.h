// RUN/metrics.jsonl: one line of JSON per step record.
#pragma once

#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/train/step_record.h"

namespace unipool {

// Owns the open file. Each record is written out at once.
class MetricsFile {
 public:
  // Creates the file or empties it.
  static absl::StatusOr<std::unique_ptr<MetricsFile>> Create(const std::string& path);
  // Opens the file of a run that resumes after `step`. Keeps the records up to that step and
  // removes the rest: the steps of later records are trained again, and a partial line is of no
  // use. If the first record written is a validation without training of `step` itself, it is
  // merged into the record of `step` that is in the file. Logs a warning if records before `step`
  // are missing, as after a crash of the host.
  static absl::StatusOr<std::unique_ptr<MetricsFile>> Resume(const std::string& path, int64_t step);
  ~MetricsFile();
  MetricsFile(const MetricsFile&) = delete;
  MetricsFile& operator=(const MetricsFile&) = delete;

  // Appends a record. On an error the file ends with the last complete record.
  absl::Status Write(const StepRecord& record);

 private:
  static absl::StatusOr<std::unique_ptr<MetricsFile>> Open(const std::string& path,
                                                           const char* mode);
  MetricsFile(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}

  const std::string path_;
  std::FILE* const file_;
  int64_t written_bytes_ = 0;  // of complete records
  // The last record of a resumed file, while a validation may still be merged into it. It counts as
  // not written yet.
  std::string held_;
  int64_t held_step_ = -1;
};

}  // namespace unipool
