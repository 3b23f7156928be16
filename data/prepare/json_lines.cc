#include "data/prepare/json_lines.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/json.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr size_t kReadBytes = 1 << 18;

// Keeps one string of the outermost object and skips everything else without storing it.
class TextHandler : public JsonEvents {
 public:
  TextHandler(const std::string& field, std::string* text) : field_(field), text_(text) {}

  bool Null() override { return Value("null"); }
  bool Bool(bool) override { return Value("a boolean"); }
  bool Negative(int64_t) override { return Value("a number"); }
  bool Unsigned(uint64_t) override { return Value("a number"); }
  bool Double(double) override { return Value("a number"); }
  bool String(std::string& value) override {
    if (at_field_ && depth_ == 1) text_->swap(value);
    return Value("a string");
  }
  bool StartObject() override { return Value("an object") && Enter(); }
  bool StartArray() override { return Value("an array") && Enter(); }
  bool EndObject() override { return Leave(); }
  bool EndArray() override { return Leave(); }
  bool Key(std::string& name) override {
    if (depth_ == 1) at_field_ = name == field_;
    return true;
  }
  void Malformed(size_t byte, const std::string&) override { error_column_ = byte; }

  absl::Status Result() const {
    const std::string expected =
        absl::StrCat("; expected an object with a string \"", field_, "\"");
    std::string problem;
    if (error_column_ > 0) {
      problem = absl::StrCat("not valid JSON at column ", error_column_);
    } else if (outermost_ != "an object") {
      problem = absl::StrCat(outermost_, " instead of an object");
    } else if (found_.empty()) {
      problem = absl::StrCat("no field \"", field_, "\"");
    } else if (found_ != "a string") {
      problem = absl::StrCat("field \"", field_, "\" is ", found_);
    }
    return problem.empty() ? absl::OkStatus()
                           : absl::InvalidArgumentError(absl::StrCat(problem, expected));
  }

 private:
  bool Value(const char* kind) {
    if (depth_ == 0) outermost_ = kind;
    if (depth_ == 1 && at_field_) {
      found_ = kind;
      at_field_ = false;
    }
    return true;
  }
  bool Enter() { return ++depth_ > 0; }
  bool Leave() { return depth_-- > 0; }

  const std::string& field_;
  std::string* text_;
  int64_t depth_ = 0;
  bool at_field_ = false;
  size_t error_column_ = 0;  // counted from 1; 0 = no error
  std::string outermost_;
  std::string found_;  // kind of the last value of the field
};

}  // namespace

absl::StatusOr<LineReader> LineReader::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<TextSource> source, TextSource::Open(path));
  return LineReader(std::move(source));
}

absl::StatusOr<bool> LineReader::ReadMore() {
  const size_t before = buffer_.size();
  buffer_.resize(before + kReadBytes);
  const absl::StatusOr<size_t> bytes = source_->Read(buffer_.data() + before, kReadBytes);
  buffer_.resize(before + (bytes.ok() ? *bytes : 0));
  if (!bytes.ok()) return bytes.status();
  return *bytes > 0;
}

absl::StatusOr<bool> LineReader::Next(absl::string_view* line) {
  for (size_t searched = begin_;;) {
    const size_t end = buffer_.find('\n', searched);
    if (end != std::string::npos) {
      *line = absl::string_view(buffer_).substr(begin_, end - begin_);
      begin_ = end + 1;
      break;
    }
    buffer_.erase(0, begin_);
    begin_ = 0;
    searched = buffer_.size();
    ASSIGN_OR_RETURN(const bool more, ReadMore());
    if (more) continue;
    if (buffer_.empty()) return false;
    *line = buffer_;
    begin_ = buffer_.size();
    break;
  }
  ++line_number_;
  return true;
}

absl::StatusOr<bool> LineReader::NextBlock(size_t min_bytes, std::string* lines) {
  buffer_.erase(0, begin_);
  begin_ = 0;
  for (size_t searched = 0;;) {
    // Once there is enough, the block ends at the last end of a line.
    if (buffer_.size() >= min_bytes) {
      const size_t end = absl::string_view(buffer_).substr(searched).rfind('\n');
      if (end != absl::string_view::npos) {
        const size_t bytes = searched + end + 1;
        lines->assign(buffer_, bytes);
        buffer_.resize(bytes);
        lines->swap(buffer_);
        return true;
      }
      searched = buffer_.size();
    }
    ASSIGN_OR_RETURN(const bool more, ReadMore());
    if (more) continue;
    lines->clear();
    lines->swap(buffer_);
    return !lines->empty();
  }
}

absl::Status TextOfJson(absl::string_view line, const std::string& field, std::string* text) {
  if (line.find_first_not_of(" \t\r") == absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("an empty line; expected an object with a string \"", field, "\""));
  }
  TextHandler handler(field, text);
  ReadJson(line, handler);
  return handler.Result();
}

}  // namespace unipool
