// `unipool score`: computes the log-probability of each token of JSON lines.
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launch/analysis/score_lines.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/open_model.h"
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
    const absl::Status status = Failed();
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

// A copy of standard input as a file in memory, because the input is read twice.
class StandardInput {
 public:
  static absl::StatusOr<std::unique_ptr<StandardInput>> Create() {
    auto self = std::unique_ptr<StandardInput>(new StandardInput());
    char block[1 << 16];
    ssize_t got = 0;
    while ((got = read(STDIN_FILENO, block, sizeof(block))) > 0) {
      for (ssize_t kept = 0; kept < got;) {
        const ssize_t more = write(self->fd_, block + kept, got - kept);
        if (more < 0)
          return absl::ErrnoToStatus(errno, "standard input: cannot be copied to memory");
        kept += more;
      }
    }
    if (got < 0) return absl::ErrnoToStatus(errno, "standard input: cannot be read");
    return self;
  }
  ~StandardInput() { close(fd_); }
  StandardInput(const StandardInput&) = delete;
  StandardInput& operator=(const StandardInput&) = delete;

  LinesFile file() const {
    return {.path = absl::StrCat("/proc/self/fd/", fd_), .name = "standard input"};
  }

 private:
  StandardInput() : fd_(memfd_create("standard input", MFD_CLOEXEC)) {}

  const int fd_;
};

absl::Status Score(const CommandLine& line, InferenceModel& model) {
  const World& world = model.world();
  absl::StatusOr<std::unique_ptr<LineWriter>> writer = nullptr;
  if (world.is_first()) writer = LineWriter::Create(line.Value("output", ""));
  RETURN_IF_ERROR(world.Agree(writer.status()));
  LinesFile input{.path = line.Value("input", ""), .name = line.Value("input", "")};
  std::unique_ptr<StandardInput> standard_input;
  if (input.path == "-") {
    if (world.size() > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat("--input -: ", world.size(),
                       " ranks cannot share standard input; give a file, or run one rank"));
    }
    ASSIGN_OR_RETURN(standard_input, StandardInput::Create());
    input = standard_input->file();
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
