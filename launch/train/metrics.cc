#include "launch/train/metrics.h"

#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Describes what is wrong with a file whose last record is of step `last`, for a run that resumes
// after `step`. Empty if nothing is. Step 0 may have no record.
std::string GapWarning(int64_t last, int64_t step, bool has_partial_line) {
  const int64_t first = std::max<int64_t>(last + 1, 1);
  std::string text = has_partial_line ? "removed a partial line at the end" : "";
  if (first > step) return text;
  if (has_partial_line) text += "; ";
  absl::StrAppend(&text, "the records of steps ", first, " to ", step,
                  " are missing (a crash of the host or an edit removed them); training resumes "
                  "after step ",
                  step);
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsFile>> MetricsFile::Create(const std::string& path) {
  return Open(path, "w");
}

absl::StatusOr<std::unique_ptr<MetricsFile>> MetricsFile::Resume(const std::string& path,
                                                                 int64_t step) {
  std::ifstream file(path);
  std::string kept, last, line;
  int64_t last_step = -1;
  bool has_partial_line = false;
  while (std::getline(file, line)) {
    has_partial_line = file.eof();  // the last line has no line end
    if (has_partial_line) break;
    absl::string_view rest = line;
    int64_t line_step = 0;
    const bool is_record =
        absl::ConsumePrefix(&rest, kStepField) &&
        absl::SimpleAtoi(rest.substr(0, rest.find_first_not_of("0123456789")), &line_step);
    if (!is_record || line_step > step) break;
    absl::StrAppend(&kept, last);
    last = line + "\n";
    last_step = line_step;
  }
  const std::string warning = GapWarning(last_step, step, has_partial_line);
  LOG_IF(WARNING, !warning.empty()) << path << ": " << warning;
  RETURN_IF_ERROR(WriteFileAtomically(path, kept + last));
  ASSIGN_OR_RETURN(auto opened, Open(path, "r+"));
  opened->held_ = last;
  opened->held_step_ = last_step;
  opened->written_bytes_ = static_cast<int64_t>(kept.size());
  std::fseek(opened->file_, opened->written_bytes_, SEEK_SET);
  return opened;
}

absl::StatusOr<std::unique_ptr<MetricsFile>> MetricsFile::Open(const std::string& path,
                                                               const char* mode) {
  std::FILE* file = std::fopen(path.c_str(), mode);
  if (file == nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": cannot be written: ", std::strerror(errno)));
  }
  // Without a buffer, or stdio would write the bytes of a failed record again later.
  std::setvbuf(file, nullptr, _IONBF, 0);
  return std::unique_ptr<MetricsFile>(new MetricsFile(path, file));
}

MetricsFile::~MetricsFile() { std::fclose(file_); }

absl::Status MetricsFile::Write(const StepRecord& record) {
  std::string line = ToJson(record) + "\n";
  if (!held_.empty() && !record.has_training && record.step == held_step_) {
    line = absl::StrCat(held_.substr(0, held_.rfind('}')), EvaluationFields(record), "}\n");
  } else {
    line = held_ + line;
  }
  if (std::fwrite(line.data(), 1, line.size(), file_) == line.size() && std::fflush(file_) == 0) {
    held_.clear();
    written_bytes_ += static_cast<int64_t>(line.size());
    return absl::OkStatus();
  }
  const absl::Status status =
      absl::DataLossError(absl::StrCat(path_, ": write failed: ", std::strerror(errno)));
  // Remove a partial line, or the next record would continue it.
  std::clearerr(file_);
  std::fseek(file_, written_bytes_, SEEK_SET);
  if (ftruncate(fileno(file_), written_bytes_) != 0) {
    LOG_FIRST_N(WARNING, 1) << path_
                            << ": cannot remove a partial record: " << std::strerror(errno);
  }
  return status;
}

}  // namespace unipool
