// `unipool score`: computes the log-probability of each token of JSON lines.
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/input_file.h"
#include "launch/analysis/score_lines.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/open_model.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

CommandSpec MakeSpec() {
  return {
      .flags = WithModelFlags(
          {{"input", "FILE",
            "JSON lines {\"tokens\": [ids]} or {\"text\": \"...\"} of at most model.sequence + 1 "
            "tokens each; - is standard input, for a single rank (required)"},
           {"output", "FILE",
            "file for the result, JSON lines {\"tokens\": [...], \"logprobs\": [null, ...]}, in "
            "nats (default: standard output)"}})};
}

// Writes lines to standard output, or to a file that gets its name when it is complete.
class LineWriter {
 public:
  // `path` is "" for standard output.
  static absl::StatusOr<std::unique_ptr<LineWriter>> Create(const std::string& path) {
    auto writer = std::unique_ptr<LineWriter>(new LineWriter(path));
    if (path.empty()) return writer;
    writer->file_ = std::fopen(writer->partial_.c_str(), "we");
    if (writer->file_ != nullptr) return writer;
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": cannot be written: ", std::strerror(errno)));
  }
  ~LineWriter() {
    if (path_.empty() || file_ == nullptr) return;
    std::fclose(file_);
    std::remove(partial_.c_str());
  }
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  absl::Status Write(const std::string& line) {
    const bool good = std::fwrite(line.data(), 1, line.size(), file_) == line.size() &&
                      std::fputc('\n', file_) != EOF;
    return good ? absl::OkStatus() : Failed();
  }

  absl::Status Finish() {
    if (std::fflush(file_) != 0) return Failed();
    if (path_.empty()) return absl::OkStatus();
    const bool synced = fsync(fileno(file_)) == 0;
    const bool closed = std::fclose(file_) == 0;
    file_ = nullptr;
    if (synced && closed && std::rename(partial_.c_str(), path_.c_str()) == 0) {
      return absl::OkStatus();
    }
    absl::Status status = Failed();
    std::remove(partial_.c_str());
    return status;
  }

 private:
  explicit LineWriter(const std::string& path)
      : path_(path), partial_(path + ".partial"), file_(path.empty() ? stdout : nullptr) {}

  absl::Status Failed() const {
    return absl::DataLossError(absl::StrCat(path_.empty() ? "standard output" : path_,
                                            ": write failed: ", std::strerror(errno)));
  }

  const std::string path_;
  const std::string partial_;
  std::FILE* file_;
};

// A copy of a pipe as a file in memory, because the input is read twice.
class PipeCopy {
 public:
  // `path` is - for standard input. At most kMaxBytes.
  static absl::StatusOr<std::unique_ptr<PipeCopy>> Create(const std::string& path) {
    const std::string name = path == "-" ? "standard input" : path;
    if (path == "-") {
      RETURN_IF_ERROR(CheckStandardInput());
      return Copy(STDIN_FILENO, name);
    }
    ASSIGN_OR_RETURN(const int fd, OpenInput(path));
    auto copy = Copy(fd, name);
    close(fd);
    return copy;
  }
  ~PipeCopy() { close(fd_); }
  PipeCopy(const PipeCopy&) = delete;
  PipeCopy& operator=(const PipeCopy&) = delete;

  LinesFile file() const { return {.path = absl::StrCat("/proc/self/fd/", fd_), .name = name_}; }

 private:
  static constexpr int64_t kMaxBytes = int64_t{1} << 30;

  explicit PipeCopy(const std::string& name)
      : name_(name), fd_(memfd_create("input", MFD_CLOEXEC)) {}

  // Devices without an end are refused; a terminal and /dev/null have one.
  static absl::Status CheckStandardInput() {
    struct stat info = {};
    const bool is_device = fstat(STDIN_FILENO, &info) == 0 && S_ISCHR(info.st_mode);
    struct stat null = {};
    const bool is_null = stat("/dev/null", &null) == 0 && null.st_rdev == info.st_rdev;
    if (!is_device || is_null || isatty(STDIN_FILENO) != 0) return absl::OkStatus();
    return absl::InvalidArgumentError("standard input: a device; expected a file or a pipe");
  }

  static absl::StatusOr<std::unique_ptr<PipeCopy>> Copy(int from, const std::string& name) {
    auto copy = std::unique_ptr<PipeCopy>(new PipeCopy(name));
    char block[1 << 16];
    int64_t bytes = 0;
    ssize_t got = 0;
    while ((got = read(from, block, sizeof(block))) > 0) {
      bytes += got;
      if (bytes > kMaxBytes) {
        return absl::InvalidArgumentError(
            absl::StrCat(name, ": more than ", kMaxBytes, " bytes; write them to a file"));
      }
      for (ssize_t kept = 0; kept < got;) {
        const ssize_t more = write(copy->fd_, block + kept, got - kept);
        if (more < 0) return SystemError(errno, absl::StrCat(name, ": cannot be copied to memory"));
        kept += more;
      }
    }
    if (got < 0) return SystemError(errno, absl::StrCat(name, ": cannot be read"));
    return copy;
  }

  const std::string name_;
  const int fd_;
};

absl::Status Score(const CommandLine& line, InferenceModel& model) {
  const World& world = model.world();
  absl::StatusOr<std::unique_ptr<LineWriter>> writer = nullptr;
  if (world.is_first()) writer = LineWriter::Create(line.Value("output", ""));
  RETURN_IF_ERROR(world.Agree(writer.status()));
  LinesFile input{.path = line.Value("input", ""), .name = line.Value("input", "")};
  std::unique_ptr<PipeCopy> copy;
  if (input.path == "-" || IsPipe(input.path)) {
    if (world.size() > 1) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--input ", input.path, ": ", world.size(), " ranks cannot share ",
          input.path == "-" ? "standard input" : "a pipe", "; give a file, or run one rank"));
    }
    ASSIGN_OR_RETURN(copy, PipeCopy::Create(input.path));
    input = copy->file();
  }
  RETURN_IF_ERROR(ScoreLines(input, model, [&](const std::string& scored) {
                    return world.is_first() ? (*writer)->Write(scored) : absl::OkStatus();
                  }).status());
  return world.Agree(world.is_first() ? (*writer)->Finish() : absl::OkStatus());
}

}  // namespace

Command ScoreCommand() {
  return {
      .name = "score",
      .summary = "computes the log-probability of each token of JSON lines",
      .spec = MakeSpec(),
      .run = [](const CommandLine& line) {
        if (!line.Has("input")) {
          return Report(absl::InvalidArgumentError("score: --input is missing; give --input FILE"));
        }
        return OpenModel(line, [&line](const ModelOrigin&, InferenceModel& model) {
          return Score(line, model);
        });
      }};
}

}  // namespace unipool
