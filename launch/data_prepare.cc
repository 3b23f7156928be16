#include "launch/data_prepare.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "data/indexed_dataset.h"
#include "data/tokenizer.h"
#include "launch/json_lines.h"
#include "runtime/status.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr double kMegabyte = 1e6;
constexpr std::chrono::milliseconds kProgressEvery(500);

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

absl::Status FileError(const fs::path& path, const std::error_code& error) {
  return absl::ErrnoToStatus(error.value(), absl::StrCat(path.string(), ": cannot read"));
}

absl::Status AddFolder(const fs::path& folder, std::vector<fs::path>* files) {
  std::error_code error;
  const size_t before = files->size();
  fs::recursive_directory_iterator entry(folder, error), end;
  for (; !error && entry != end; entry.increment(error)) {
    // A link to nowhere is listed too, so that it is named below.
    std::error_code unknown;
    if (!entry->is_directory(unknown)) files->push_back(entry->path());
  }
  if (error) return FileError(folder, error);
  if (files->size() == before) {
    return absl::NotFoundError(absl::StrCat(folder.string(), ": a folder without files"));
  }
  std::sort(files->begin() + static_cast<int64_t>(before), files->end());
  return absl::OkStatus();
}

// All input files in order, each seen to be readable before hours of work begin.
absl::StatusOr<std::vector<fs::path>> ListFiles(const std::vector<std::string>& inputs) {
  if (inputs.empty()) return absl::InvalidArgumentError("no input: expected a file or a folder");
  std::vector<fs::path> files;
  for (const fs::path input : inputs) {
    std::error_code error;
    const bool is_folder = fs::is_directory(input, error);
    if (error) return FileError(input, error);
    if (is_folder) {
      RETURN_IF_ERROR(AddFolder(input, &files));
    } else {
      files.push_back(input);
    }
  }
  for (const fs::path& file : files) {
    if (access(file.c_str(), R_OK) != 0) {
      return FileError(file, std::error_code(errno, std::generic_category()));
    }
    std::error_code error;
    if (!fs::is_regular_file(file, error)) {
      return absl::InvalidArgumentError(absl::StrCat(file.string(), ": not a regular file"));
    }
  }
  return files;
}

absl::StatusOr<bool> IsJsonLines(const fs::path& file, TextFormat format) {
  if (format != TextFormat::kAuto) return format == TextFormat::kJsonLines;
  const std::string extension = file.extension().string();
  for (const char* packed : {".gz", ".zst", ".xz", ".bz2", ".zip"}) {
    if (extension != packed) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        file.string(), ": compressed; unpack it first (--format text takes it as it is)"));
  }
  return extension == ".jsonl" || extension == ".json";
}

absl::Status PrepareOutput(const PrepareOptions& options) {
  if (options.output.empty()) return absl::InvalidArgumentError("no output: expected a PREFIX");
  for (const char* suffix : {".bin", ".idx"}) {
    const std::string path = options.output + suffix;
    std::error_code error;
    if (!options.overwrite && fs::exists(path, error)) {
      return absl::AlreadyExistsError(
          absl::StrCat(path, ": already there; remove it or pass --overwrite"));
    }
  }
  const fs::path folder = fs::path(options.output).parent_path();
  std::error_code error;
  if (!folder.empty()) fs::create_directories(folder, error);
  if (!error) return absl::OkStatus();
  return absl::ErrnoToStatus(error.value(), absl::StrCat(folder.string(), ": cannot make folder"));
}

// One line on standard error that is rewritten now and then; nothing when that is not a terminal.
class Progress {
 public:
  explicit Progress(int64_t total_bytes)
      : total_bytes_(total_bytes), shown_(isatty(STDERR_FILENO) != 0), start_(Clock::now()) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress() {
    if (shown_) absl::FPrintF(stderr, "\r\033[K");
  }

  void Show(const PrepareReport& report) {
    if (!shown_ || Clock::now() < next_) return;
    next_ = Clock::now() + kProgressEvery;
    const double seconds = SecondsSince(start_), done = static_cast<double>(report.input_bytes);
    const double rate = done / std::max(seconds, 1e-9), total = static_cast<double>(total_bytes_);
    absl::FPrintF(stderr, "\r\033[K%3.0f %% of %.1f MB, %.1f MB/s, %d documents, %.0f s left",
                  100 * done / std::max(total, 1.0), total / kMegabyte, rate / kMegabyte,
                  report.documents, std::max(total - done, 0.0) / std::max(rate, 1.0));
    std::fflush(stderr);
  }

 private:
  int64_t total_bytes_;
  bool shown_;
  Clock::time_point start_;
  Clock::time_point next_;
};

// The work of one call: files in, documents out.
class Preparation {
 public:
  Preparation(const PrepareOptions& options, int64_t total_bytes,
              std::unique_ptr<IndexedDatasetWriter> writer, const Tokenizer& tokenizer,
              PrepareReport* report)
      : options_(options),
        writer_(std::move(writer)),
        tokenizer_(tokenizer),
        report_(*report),
        progress_(total_bytes) {}

  absl::Status AddJsonLines(const std::string& path) {
    ASSIGN_OR_RETURN(LineReader reader, LineReader::Open(path));
    absl::string_view line;
    while (true) {
      ASSIGN_OR_RETURN(const bool more, reader.Next(&line));
      if (!more) return absl::OkStatus();
      report_.input_bytes += static_cast<int64_t>(line.size()) + 1;
      const absl::Status status = TextOfJson(line, options_.text_field, &text_);
      if (status.ok()) {
        RETURN_IF_ERROR(AddText());
      } else {
        RETURN_IF_ERROR(
            BadLine(absl::StrCat(path, " line ", reader.line_number(), ": ", status.message())));
      }
    }
  }

  absl::Status AddPlain(const std::string& path) {
    std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "re"),
                                                         std::fclose);
    if (!file) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot open"));
    text_.clear();
    char block[1 << 16];
    while (const size_t bytes = std::fread(block, 1, sizeof(block), file.get())) {
      text_.append(block, bytes);
    }
    if (std::ferror(file.get()) != 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot read"));
    }
    report_.input_bytes += static_cast<int64_t>(text_.size());
    return AddText();
  }

  absl::Status Finish() {
    report_.tokens = writer_->num_tokens();
    return writer_->Finish();
  }

 private:
  absl::Status AddText() {
    ids_.clear();
    if (!text_.empty()) {
      tokenizer_.Encode(text_, &ids_);
      ids_.push_back(tokenizer_.end_of_document());
    }
    RETURN_IF_ERROR(writer_->AddDocument(ids_));
    ++report_.documents;
    progress_.Show(report_);
    return absl::OkStatus();
  }

  absl::Status BadLine(const std::string& message) {
    if (!options_.skip_bad) return absl::InvalidArgumentError(message);
    if (report_.bad_lines++ == 0) report_.first_bad_line = message;
    return absl::OkStatus();
  }

  const PrepareOptions& options_;
  std::unique_ptr<IndexedDatasetWriter> writer_;
  const Tokenizer& tokenizer_;
  PrepareReport& report_;
  Progress progress_;
  std::string text_;
  std::vector<int32_t> ids_;
};

}  // namespace

absl::Status PrepareData(const PrepareOptions& options, PrepareReport* report) {
  PrepareReport unwanted;
  if (report == nullptr) report = &unwanted;
  *report = {};
  const auto start = Clock::now();
  ASSIGN_OR_RETURN(const std::vector<fs::path> files, ListFiles(options.inputs));
  int64_t total_bytes = 0;
  for (const fs::path& file : files) {
    RETURN_IF_ERROR(IsJsonLines(file, options.format).status());
    std::error_code error;
    total_bytes += static_cast<int64_t>(fs::file_size(file, error));
    if (error) return FileError(file, error);
  }
  RETURN_IF_ERROR(PrepareOutput(options));
  const auto tokenizer = CreateByteTokenizer();
  ASSIGN_OR_RETURN(auto writer, IndexedDatasetWriter::Create(options.output, tokenizer->vocab()));
  Preparation preparation(options, total_bytes, std::move(writer), *tokenizer, report);
  for (const fs::path& file : files) {
    const bool json_lines = *IsJsonLines(file, options.format);
    RETURN_IF_ERROR(json_lines ? preparation.AddJsonLines(file.string())
                               : preparation.AddPlain(file.string()));
    ++report->files;
  }
  RETURN_IF_ERROR(preparation.Finish());
  report->seconds = SecondsSince(start);
  return absl::OkStatus();
}

}  // namespace unipool
