// Reads a file of lines (packed or not, text_source.h), line by line or in blocks of whole lines,
// and takes the text out of a line of JSON.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/prepare/text_source.h"

namespace unipool {

class LineReader {
 public:
  static absl::StatusOr<LineReader> Open(const std::string& path);

  // The next line without its end, valid until the next call; false at the end of the file.
  absl::StatusOr<bool> Next(absl::string_view* line);
  int64_t line_number() const { return line_number_; }  // of the last line, from 1

  // The next lines, whole and with their ends, at least `least_bytes` of them or all that are left;
  // false at the end of the file. Does not count lines.
  absl::StatusOr<bool> NextBlock(size_t least_bytes, std::string* lines);
  int64_t file_bytes() const { return source_->file_bytes(); }

 private:
  explicit LineReader(std::unique_ptr<TextSource> source) : source_(std::move(source)) {}

  // Appends to the buffer; false at the end of the file.
  absl::StatusOr<bool> ReadMore();

  std::unique_ptr<TextSource> source_;
  std::string buffer_;
  size_t begin_ = 0;  // of what was not given yet
  int64_t line_number_ = 0;
};

// The string under `field` of the object that `line` holds; the last one when it is there twice.
// Errors say what is wrong and what was expected, without file and line.
absl::Status TextOfJson(absl::string_view line, const std::string& field, std::string* text);

}  // namespace unipool
