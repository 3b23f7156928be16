// Reads a text file line by line, in one buffer that grows to the longest line, and takes the text
// out of a line of JSON.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace unipool {

class LineReader {
 public:
  static absl::StatusOr<LineReader> Open(const std::string& path);

  LineReader(LineReader&& other) noexcept;
  LineReader& operator=(LineReader&&) = delete;
  ~LineReader();

  // The next line without its end, valid until the next call; false at the end of the file.
  absl::StatusOr<bool> Next(absl::string_view* line);
  int64_t line_number() const { return line_number_; }  // of the last line, from 1

 private:
  LineReader(std::string path, std::FILE* file);

  std::string path_;
  std::FILE* file_;
  char* buffer_ = nullptr;
  size_t capacity_ = 0;
  int64_t line_number_ = 0;
};

// The string under `field` of the object that `line` holds; the last one when it is there twice.
// Errors say what is wrong and what was expected, without file and line.
absl::Status TextOfJson(absl::string_view line, const std::string& field, std::string* text);

}  // namespace unipool
