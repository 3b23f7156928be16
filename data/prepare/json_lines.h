// Reads a file (optionally compressed, text_source.h) line by line or in blocks of complete lines,
// and extracts the text of a JSON line.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/prepare/text_source.h"

namespace unipool {

// Owns the open file. One thread may use it. A byte order mark at the start is passed over. Errors
// of all methods are those of TextSource, or INVALID_ARGUMENT for a line above kMaxLineBytes.
class LineReader {
 public:
  static constexpr size_t kMaxLineBytes = size_t{1} << 30;

  // Reads the start of the file.
  static absl::StatusOr<LineReader> Open(const std::string& path);

  // The next bytes of the text, `bytes` of them unless it ends before; the other methods return
  // them again. Valid until the next call.
  absl::StatusOr<absl::string_view> Head(size_t bytes);

  // Sets `line` to the next line without its newline, valid until the next call. Returns false at
  // the end of the file.
  absl::StatusOr<bool> Next(absl::string_view* line);
  int64_t line_number() const { return line_number_; }  // of the last line returned, from 1

  // Sets `lines` to the next complete lines with their newlines, at least `min_bytes` in total or
  // all that remain. Returns false at the end of the file. Does not advance line_number().
  absl::StatusOr<bool> NextBlock(size_t min_bytes, std::string* lines);
  // For text without lines. Sets `part` to the next bytes: to at least `min_bytes`, up to a
  // position that `split` finds in the text so far, after the position that is its second argument
  // (0 if there is none); to all that remain at the end; or to more than `max_bytes` if no position
  // is found in these. Returns false for the last part, which may be empty.
  struct PartRules {
    size_t min_bytes;
    size_t max_bytes;
    std::function<size_t(absl::string_view, size_t)> split;
  };
  absl::StatusOr<bool> NextPart(const PartRules& rules, std::string* part);
  // Bytes of the file read so far, before decompression.
  int64_t file_bytes() const { return source_->file_bytes(); }

 private:
  LineReader(std::string path, std::unique_ptr<TextSource> source)
      : path_(std::move(path)), source_(std::move(source)) {}

  // Appends to the buffer. Returns false at the end of the file.
  absl::StatusOr<bool> ReadMore();
  // ReadMore for a buffer that has no end of a line so far.
  absl::StatusOr<bool> ReadMoreOfLine();
  // Removes from the buffer what was returned.
  void DropReturned();
  // Moves the first `bytes` of the buffer to `front`.
  void TakeFront(size_t bytes, std::string* front);

  std::string path_;
  std::unique_ptr<TextSource> source_;
  std::string buffer_;
  size_t begin_ = 0;  // of what was not returned yet
  int64_t line_number_ = 0;
};

// Whether the line has only spaces, tabs and carriage returns.
bool IsBlankLine(absl::string_view line);

// What TextOfJson found in a line.
struct JsonText {
  std::string text;
  // Some value is NaN, Infinity or -Infinity, or a number beyond the range of a double.
  bool has_special_number = false;
};

// Sets `found->text` to the string `field` of the JSON object in `line`; if the field occurs twice,
// to the last one. INVALID_ARGUMENT says what is wrong and what was expected, without file and
// line.
absl::Status TextOfJson(absl::string_view line, const std::string& field, JsonText* found);

}  // namespace unipool
