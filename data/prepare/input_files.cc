#include "data/prepare/input_files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "data/index_format.h"
#include "data/input_file.h"
#include "data/prepare/file_kind.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;

// Identifies a file or a folder whatever its path is.
using FileId = std::pair<dev_t, ino_t>;

absl::Status FileError(const fs::path& path, const std::error_code& error) {
  return SystemError(error.value(), absl::StrCat(path.string(), ": cannot read"));
}

absl::StatusOr<struct stat> StatOf(const fs::path& path) {
  struct stat info = {};
  if (stat(path.c_str(), &info) == 0) return info;
  return FileError(path, std::error_code(errno, std::generic_category()));
}

FileId IdOf(const struct stat& info) { return {info.st_dev, info.st_ino}; }

bool BeginsWith(const fs::path& path, absl::string_view magic) {
  std::string head(magic.size(), '\0');
  std::ifstream file(path, std::ios::binary);
  file.read(head.data(), static_cast<std::streamsize>(head.size()));
  return file.good() && head == magic;
}

bool IsIndex(const fs::path& path) {
  return BeginsWith(path, {index_format::kMagic, index_format::kMagicBytes});
}

// Files of earlier preparations and of this one, which are no text.
class Outputs {
 public:
  // `prefix` is that of the output of this command.
  explicit Outputs(const std::string& prefix) {
    for (const char* suffix : {".bin", ".idx", ".bin.partial", ".idx.partial"}) {
      struct stat info = {};
      if (stat((prefix + suffix).c_str(), &info) == 0) mine_.insert(IdOf(info));
    }
  }

  // What the file is; null if it may be text.
  const char* Describe(const fs::path& path, const struct stat& info) const {
    if (mine_.count(IdOf(info)) > 0) return "the output of this command";
    const std::string name = path.filename().string();
    for (const char* suffix : {".bin.partial", ".idx.partial", ".order.partial", ".order.lock"}) {
      if (absl::EndsWith(name, suffix)) return "a temporary file of token files";
    }
    const fs::path extension = path.extension();
    if (extension == ".idx") return IsIndex(path) ? "the index of token files" : nullptr;
    if (extension == ".order") {
      return BeginsWith(path, {kOrderMagic, sizeof(kOrderMagic)}) ? "an order of samples" : nullptr;
    }
    if (extension != ".bin") return nullptr;
    const fs::path index = fs::path(path).replace_extension(".idx");
    const bool is_pair = IsIndex(index) || IsIndex(index.string() + ".partial");
    return is_pair ? "token ids" : nullptr;
  }

 private:
  std::set<FileId> mine_;
};

// Collects the files below a folder. Links are followed after everything that is reached without
// them, so a file has the same place with and without links to it.
class FolderWalk {
 public:
  FolderWalk(const Outputs& outputs, std::vector<std::string>* skipped)
      : outputs_(outputs), skipped_(*skipped) {}

  absl::StatusOr<std::vector<fs::path>> Run(const fs::path& root) {
    ASSIGN_OR_RETURN(const struct stat info, StatOf(root));
    seen_.insert(IdOf(info));
    const size_t skipped_before = skipped_.size();
    RETURN_IF_ERROR(AddFolder(root));
    while (!links_.empty()) {
      const fs::path link = *links_.begin();
      links_.erase(links_.begin());
      RETURN_IF_ERROR(AddEntry(link, Reached::kByLink));
    }
    std::sort(skipped_.begin() + static_cast<int64_t>(skipped_before), skipped_.end());
    if (files_.empty()) return NoFiles(root, skipped_before);
    std::sort(files_.begin(), files_.end());
    return std::move(files_);
  }

 private:
  enum class Reached { kDirectly, kByLink };

  // Adds what is below the folder without following links, which are kept for later.
  absl::Status AddFolder(const fs::path& top, Reached reached = Reached::kDirectly) {
    std::vector<fs::path> folders = {top};
    while (!folders.empty()) {
      const fs::path folder = std::move(folders.back());
      folders.pop_back();
      std::error_code error;
      fs::directory_iterator entry(folder, error), end;
      for (; !error && entry != end; entry.increment(error)) {
        std::error_code unknown;
        if (entry->is_symlink(unknown)) {
          links_.insert(entry->path());
        } else if (entry->is_directory(unknown)) {
          ASSIGN_OR_RETURN(const bool is_new, IsNewFolder(entry->path()));
          if (is_new) folders.push_back(entry->path());
        } else {
          RETURN_IF_ERROR(AddEntry(entry->path(), reached));
        }
      }
      if (error) return FileError(folder, error);
    }
    return absl::OkStatus();
  }

  // Adds a file, or what a link points to.
  absl::Status AddEntry(const fs::path& path, Reached reached) {
    const std::string name = path.filename().string();
    const char* reason = ReasonToSkip(name);
    struct stat info = {};
    const bool is_there = stat(path.c_str(), &info) == 0;
    if (is_there && S_ISDIR(info.st_mode)) {
      ASSIGN_OR_RETURN(const bool is_new, IsNewFolder(path));
      return is_new ? AddFolder(path, Reached::kByLink) : absl::OkStatus();
    }
    if (reason != nullptr) return Skip(path, reason);
    // A broken link too.
    if (!is_there) return FileError(path, std::error_code(errno, std::generic_category()));
    if (!S_ISREG(info.st_mode)) {
      return absl::InvalidArgumentError(absl::StrCat(
          path.string(), ": not a regular file; remove it, or name the files to read"));
    }
    if (const char* output = outputs_.Describe(path, info)) return Skip(path, output);
    const bool is_new = seen_.insert(IdOf(info)).second;
    if (!is_new && reached == Reached::kByLink) return Skip(path, "a link to a file that is read");
    files_.push_back(path);
    return absl::OkStatus();
  }

  // Returns false after naming a folder that is not to be read.
  absl::StatusOr<bool> IsNewFolder(const fs::path& path) {
    if (const char* reason = ReasonToSkipFolder(path.filename().string())) {
      RETURN_IF_ERROR(Skip(path, reason));
      return false;
    }
    ASSIGN_OR_RETURN(const struct stat info, StatOf(path));
    if (seen_.insert(IdOf(info)).second) return true;
    RETURN_IF_ERROR(Skip(path, "a link to a folder that is read"));
    return false;
  }

  absl::Status Skip(const fs::path& path, const char* reason) {
    skipped_.push_back(absl::StrCat(path.string(), " (", reason, ")"));
    return absl::OkStatus();
  }

  absl::Status NoFiles(const fs::path& root, size_t skipped_before) const {
    const size_t skipped = skipped_.size() - skipped_before;
    const std::string first =
        skipped == 0 ? ""
                     : absl::StrCat("; ", skipped, " skipped, such as ", skipped_[skipped_before]);
    return absl::NotFoundError(
        absl::StrCat(root.string(), ": the folder contains no files to read", first));
  }

  const Outputs& outputs_;
  std::vector<std::string>& skipped_;
  std::vector<fs::path> files_;
  std::set<fs::path> links_;  // not yet followed
  std::set<FileId> seen_;     // folders and files
};

// The first kJsonBeginBytes characters of the text that are no spaces, fewer at its end.
absl::StatusOr<std::string> Beginning(LineReader& reader) {
  constexpr size_t kMaxBytes = size_t{64} << 20;
  std::string begin;
  for (size_t bytes = kContentHeadBytes; bytes <= kMaxBytes; bytes *= 4) {
    ASSIGN_OR_RETURN(const absl::string_view head, reader.Head(bytes));
    begin.clear();
    for (size_t i = 0; i < head.size() && begin.size() < kJsonBeginBytes; ++i) {
      if (!absl::ascii_isspace(static_cast<unsigned char>(head[i]))) begin.push_back(head[i]);
    }
    if (begin.size() == kJsonBeginBytes || head.size() < bytes) break;
  }
  return begin;
}

absl::Status WithPath(const std::string& path, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(path, ": ", status.message()));
}

// Checks one file of the list before the long work starts.
absl::StatusOr<InputFile> CheckFile(const PrepareOptions& options, const fs::path& path) {
  InputFile file;
  file.path = path.string();
  ASSIGN_OR_RETURN(const struct stat info, StatOf(path));
  file.is_pipe = S_ISFIFO(info.st_mode);
  if (access(path.c_str(), R_OK) != 0) {
    return FileError(path, std::error_code(errno, std::generic_category()));
  }
  RETURN_IF_ERROR(CheckInput(file.path));
  if (file.is_pipe) return file;
  file.bytes = info.st_size;
  const std::string name = path.filename().string();
  if (options.format == TextFormat::kAuto) RETURN_IF_ERROR(WithPath(file.path, CheckName(name)));
  const bool is_named =
      options.format == TextFormat::kJsonLines ||
      (options.format == TextFormat::kAuto && FormatOfName(name) == NamedFormat::kJsonLines);
  file.is_json_lines = is_named;
  if (is_named) return file;
  absl::StatusOr<LineReader> reader = LineReader::Open(file.path);
  // Damaged data are reported when the file is read, after errors of the files before it.
  if (!reader.ok()) return file;
  RETURN_IF_ERROR(CheckStart(options, *reader, &file));
  return file;
}

}  // namespace

absl::Status CheckStart(const PrepareOptions& options, LineReader& reader, InputFile* file) {
  const NamedFormat named = FormatOfName(fs::path(file->path).filename().string());
  const bool is_auto = options.format == TextFormat::kAuto;
  file->is_json_lines =
      options.format == TextFormat::kJsonLines || (is_auto && named == NamedFormat::kJsonLines);
  if (file->is_json_lines) return absl::OkStatus();
  const absl::StatusOr<absl::string_view> head = reader.Head(kContentHeadBytes);
  if (!head.ok()) return absl::OkStatus();  // the error comes again when the file is read
  const absl::Status content = WithPath(file->path, CheckContent(*head));
  if (!content.ok() && options.skip_bad) file->problem = std::string(content.message());
  if (!content.ok()) return options.skip_bad ? absl::OkStatus() : content;
  const absl::StatusOr<std::string> begin = Beginning(reader);
  if (!is_auto || !begin.ok() || !BeginsLikeJson(*begin)) return absl::OkStatus();
  file->is_json_lines = named == NamedFormat::kEither;
  if (file->is_json_lines) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file->path, ": begins with ", (*begin)[0] == '{' ? "{\"" : "[{\"",
                   " as JSON lines do; pass --format jsonl to read a document from each line, or "
                   "--format text to read the file as one"));
}

absl::StatusOr<InputList> ListInputs(const PrepareOptions& options) {
  if (options.inputs.empty())
    return absl::InvalidArgumentError("no input; name a file or a folder");
  const Outputs outputs(options.output);
  InputList list;
  for (const fs::path input : options.inputs) {
    ASSIGN_OR_RETURN(const struct stat info, StatOf(input));
    std::vector<fs::path> paths = {input};
    if (S_ISDIR(info.st_mode)) {
      ASSIGN_OR_RETURN(paths, FolderWalk(outputs, &list.skipped).Run(input));
    } else if (const char* output = outputs.Describe(input, info)) {
      return absl::InvalidArgumentError(
          absl::StrCat(input.string(), ": ", output, ", not text; give the text instead"));
    }
    for (const fs::path& path : paths) {
      ASSIGN_OR_RETURN(InputFile file, CheckFile(options, path));
      list.files.push_back(std::move(file));
    }
  }
  return list;
}

}  // namespace unipool
