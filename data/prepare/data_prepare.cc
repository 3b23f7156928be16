#include "data/prepare/data_prepare.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "data/indexed_dataset.h"
#include "data/prepare/input_files.h"
#include "data/prepare/json_lines.h"
#include "data/prepare/prepare_progress.h"
#include "data/prepare/tokenize_pool.h"
#include "data/tokenizer.h"
#include "runtime/clock.h"
#include "runtime/files.h"
#include "runtime/status.h"
#include "runtime/utf8.h"

namespace unipool {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr int kMaxWorkers = 1024;

// The status with the input file, if a document of it is too long.
absl::Status OfFile(const std::string& path, const absl::Status& status) {
  if (status.code() != absl::StatusCode::kInvalidArgument) return status;
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", status.message()));
}

// Checks that the output may be written, and makes its folder. The index is renamed last, so only
// an output with an .idx is complete. A .bin without .idx but with an .idx.partial was left by a
// process that was killed between the two renames; any other .bin belongs to someone else.
absl::Status PrepareOutput(const PrepareOptions& options) {
  if (options.output.empty())
    return absl::InvalidArgumentError("no output; name the PREFIX of a .bin and an .idx file");
  const fs::path name = fs::path(options.output).filename();
  if (name.empty() || name == "." || name == "..") {
    return absl::InvalidArgumentError(absl::StrCat(
        options.output, ": names a folder; name the PREFIX of a .bin and an .idx file"));
  }
  std::error_code error;
  const std::string bin = options.output + ".bin", idx = options.output + ".idx";
  const bool has_idx = fs::exists(idx, error);
  const bool is_interrupted = !has_idx && fs::exists(idx + ".partial", error);
  if (!options.overwrite && (has_idx || (fs::exists(bin, error) && !is_interrupted))) {
    return absl::AlreadyExistsError(
        absl::StrCat(has_idx ? idx : bin, ": already exists; remove it or pass --overwrite"));
  }
  const fs::path folder = fs::path(options.output).parent_path();
  error.clear();
  if (!folder.empty()) fs::create_directories(folder, error);
  if (!error) return absl::OkStatus();
  return SystemError(error.value(), absl::StrCat(folder.string(), ": cannot create folder"));
}

// State of one call of PrepareData. The calling thread reads and writes; the pool tokenizes.
class Preparation {
 public:
  Preparation(const PrepareOptions& options, const Tokenizer& tokenizer,
              std::unique_ptr<IndexedDatasetWriter> writer, int64_t total_bytes)
      : options_(options),
        rules_{.text_field = options.text_field, .skip_bad = options.skip_bad},
        tokenizer_(tokenizer),
        writer_(std::move(writer)),
        pool_(tokenizer, rules_, options.workers),
        progress_(total_bytes) {}

  absl::Status AddFile(InputFile file) {
    if (!file.problem.empty()) return SkipFile(file);
    absl::StatusOr<LineReader> reader = LineReader::Open(file.path);
    if (!reader.ok()) return AfterPendingBlocks(reader.status());
    if (file.is_pipe) {
      const absl::Status status = CheckStart(options_, *reader, &file);
      if (!status.ok()) return AfterPendingBlocks(status);
      if (!file.problem.empty()) return SkipFile(file);
    }
    RETURN_IF_ERROR(file.is_json_lines ? AddLines(file.path, *reader)
                                       : AddPlain(file.path, *reader));
    file_bytes_ += reader->file_bytes();
    ++report_.files;
    return absl::OkStatus();
  }

  absl::Status Finish(std::vector<std::string> skipped, PrepareReport* report) {
    RETURN_IF_ERROR(WriteAll());
    report_.skipped = std::move(skipped);
    RETURN_IF_ERROR(writer_->Finish());
    report_.tokens = writer_->num_tokens();
    report_.documents = writer_->num_documents();
    *report = report_;
    return absl::OkStatus();
  }

 private:
  static constexpr size_t kBlockBytes = 1 << 20;
  // A tokenizer may take so much plain text as one word; it needs 40 times the memory.
  static constexpr size_t kMaxWordBytes = size_t{256} << 20;

  // The file that a block comes from.
  struct Origin {
    std::string path;
    bool begins_file;
    int64_t file_bytes;  // bytes read of all files, up to the end of this block
  };

  // Counts a file that is no text, in the order of the inputs.
  absl::Status SkipFile(const InputFile& file) {
    RETURN_IF_ERROR(WriteAll());
    if (report_.bad_lines++ == 0) report_.first_bad_line = file.problem;
    file_bytes_ += file.bytes;
    ++report_.files;
    return absl::OkStatus();
  }

  absl::Status AddLines(const std::string& path, LineReader& reader) {
    for (bool is_first = true;; is_first = false) {
      std::unique_ptr<TextBlock> block = NewBlock();
      block->is_json_lines = true;
      const absl::StatusOr<bool> is_there = reader.NextBlock(kBlockBytes, &block->text);
      if (!is_there.ok()) return AfterPendingBlocks(is_there.status());
      if (!*is_there) return absl::OkStatus();
      RETURN_IF_ERROR(Submit(std::move(block), {path, is_first, FileBytes(reader)}));
    }
  }

  // The file is one document, even if it is empty. Its parts are tokenized separately.
  absl::Status AddPlain(const std::string& path, LineReader& reader) {
    const LineReader::PartRules rules{.min_bytes = kBlockBytes,
                                      .max_bytes = kMaxWordBytes,
                                      .split = [this](absl::string_view text, size_t searched) {
                                        return tokenizer_.SplitPoint(text, searched);
                                      }};
    int64_t begin = 0;
    for (bool is_last = false; !is_last;) {
      std::unique_ptr<TextBlock> block = NewBlock();
      block->is_json_lines = false;
      const absl::StatusOr<bool> more = reader.NextPart(rules, &block->text);
      if (!more.ok()) return AfterPendingBlocks(more.status());
      is_last = !*more;
      block->document_byte = begin;
      block->ends_document = is_last;
      const auto bytes = static_cast<int64_t>(block->text.size());
      // What is not UTF-8 may look like one word; the pool names it.
      const bool is_word = block->text.size() > kMaxWordBytes;
      if (is_word && ValidUtf8Bytes(block->text) + 4 > block->text.size()) {
        return AfterPendingBlocks(absl::InvalidArgumentError(
            absl::StrCat(path, ": the ", bytes, " bytes from byte ", begin,
                         " of the text are one word for the tokenizer; insert spaces")));
      }
      RETURN_IF_ERROR(Submit(std::move(block), {path, begin == 0, FileBytes(reader)}));
      begin += bytes;
    }
    return absl::OkStatus();
  }

  int64_t FileBytes(const LineReader& reader) const { return file_bytes_ + reader.file_bytes(); }

  absl::Status Submit(std::unique_ptr<TextBlock> block, Origin origin) {
    origins_.push_back(std::move(origin));
    pool_.Submit(std::move(block));
    while (pool_.is_full()) RETURN_IF_ERROR(WriteOldest());
    return absl::OkStatus();
  }

  // Returns the error of an earlier block if there is one, else `status`, so that the error does
  // not depend on the number of workers.
  absl::Status AfterPendingBlocks(const absl::Status& status) {
    RETURN_IF_ERROR(WriteAll());
    return status;
  }

  std::unique_ptr<TextBlock> NewBlock() {
    if (spare_.empty()) return std::make_unique<TextBlock>();
    std::unique_ptr<TextBlock> block = std::move(spare_.back());
    spare_.pop_back();
    return block;
  }

  absl::Status WriteAll() {
    while (!pool_.is_empty()) RETURN_IF_ERROR(WriteOldest());
    return absl::OkStatus();
  }

  absl::Status WriteOldest() {
    std::unique_ptr<TextBlock> block = pool_.Take();
    const Origin origin = std::move(origins_.front());
    origins_.pop_front();
    if (origin.begins_file) lines_ = 0;
    const absl::Status status =
        block->is_json_lines ? WriteLines(*block, origin.path) : WritePlain(*block, origin.path);
    RETURN_IF_ERROR(status);
    report_.input_bytes += static_cast<int64_t>(block->text.size());
    progress_.Show({origin.file_bytes, report_.input_bytes, writer_->num_documents()});
    if (block->text.size() <= 2 * kBlockBytes) spare_.push_back(std::move(block));
    return absl::OkStatus();
  }

  absl::Status WriteLines(const TextBlock& block, const std::string& path) {
    if (block.bad_lines > 0) RETURN_IF_ERROR(RecordBadLines(block, path));
    lines_ += block.lines;
    report_.blank_lines += block.blank_lines;
    report_.special_lines += block.special_lines;
    return WriteTokens(block, path);
  }

  // If a part of a plain document is bad, the whole document is left out.
  absl::Status WritePlain(const TextBlock& block, const std::string& path) {
    if (block.bad_lines > 0 && !is_dropping_) {
      RETURN_IF_ERROR(RecordBadLines(block, path));
      RETURN_IF_ERROR(writer_->DropTokens());
      is_dropping_ = true;
    }
    if (!is_dropping_) return WriteTokens(block, path);
    is_dropping_ = !block.ends_document;
    return absl::OkStatus();
  }

  // Writes the documents of the block; the last one may go on in the next block.
  absl::Status WriteTokens(const TextBlock& block, const std::string& path) {
    const auto ids = absl::MakeConstSpan(block.ids);
    int64_t begin = 0;
    for (const int64_t end : block.ends) {
      RETURN_IF_ERROR(OfFile(path, writer_->AddTokens(ids.subspan(begin, end - begin))));
      RETURN_IF_ERROR(writer_->EndDocument());
      begin = end;
    }
    return OfFile(path, writer_->AddTokens(ids.subspan(begin)));
  }

  // INVALID_ARGUMENT with the first bad line, or counts the bad lines if options_.skip_bad.
  absl::Status RecordBadLines(const TextBlock& block, const std::string& path) {
    const std::string line =
        block.is_json_lines ? absl::StrCat(" line ", lines_ + block.first_bad_line) : "";
    const std::string first = absl::StrCat(path, line, ": ", block.first_problem);
    if (!options_.skip_bad) return absl::InvalidArgumentError(first);
    if (report_.bad_lines == 0) report_.first_bad_line = first;
    report_.bad_lines += block.bad_lines;
    return absl::OkStatus();
  }

  const PrepareOptions& options_;
  const TokenizeRules rules_;
  const Tokenizer& tokenizer_;
  std::unique_ptr<IndexedDatasetWriter> writer_;
  TokenizePool pool_;
  PrepareProgress progress_;
  PrepareReport report_;
  int64_t file_bytes_ = 0;    // size of the files read completely
  bool is_dropping_ = false;  // the rest of a bad plain document
  int64_t lines_ = 0;         // lines of the current file before the oldest block in the pool
  std::deque<Origin> origins_;
  std::vector<std::unique_ptr<TextBlock>> spare_;  // free blocks, kept for their memory
};

absl::StatusOr<std::unique_ptr<Tokenizer>> OpenTokenizer(const PrepareOptions& options) {
  if (options.vocab_file.empty() && options.merges_file.empty()) return CreateByteTokenizer();
  return OpenGpt2Tokenizer(options.vocab_file, options.merges_file);
}

}  // namespace

absl::Status PrepareData(const PrepareOptions& options, PrepareReport* report) {
  PrepareReport unwanted;
  if (report == nullptr) report = &unwanted;
  *report = {};
  const auto start = Clock::now();
  if (options.workers < 1 || options.workers > kMaxWorkers) {
    return absl::InvalidArgumentError(
        absl::StrCat(options.workers, " workers; use 1 to ", kMaxWorkers));
  }
  ASSIGN_OR_RETURN(InputList inputs, ListInputs(options));
  int64_t total_bytes = 0;
  bool has_pipe = false;
  for (const InputFile& file : inputs.files) {
    total_bytes += file.bytes;
    has_pipe |= file.is_pipe;
  }
  if (has_pipe) total_bytes = PrepareProgress::kUnknownBytes;
  ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, OpenTokenizer(options));
  RETURN_IF_ERROR(PrepareOutput(options));
  ASSIGN_OR_RETURN(auto writer, IndexedDatasetWriter::Create(options.output, tokenizer->vocab()));
  Preparation preparation(options, *tokenizer, std::move(writer), total_bytes);
  for (const InputFile& file : inputs.files) RETURN_IF_ERROR(preparation.AddFile(file));
  RETURN_IF_ERROR(preparation.Finish(std::move(inputs.skipped), report));
  report->seconds = SecondsSince(start);
  return absl::OkStatus();
}

}  // namespace unipool
