#include "data/prepare/json_lines.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/json.h"
#include "runtime/quote.h"
#include "runtime/status.h"
#include "runtime/utf8.h"

namespace unipool {
namespace {

constexpr size_t kReadBytes = 1 << 18;

// Keeps one string of the outermost object and skips everything else without storing it.
class TextHandler : public JsonEvents {
 public:
  TextHandler(absl::string_view line, const std::string& field, JsonText* result)
      : line_(line), field_(field), result_(result) {}

  bool Null() override { return Value("null"); }
  bool Bool(bool) override { return Value("a boolean"); }
  bool Negative(int64_t) override { return Value("a number"); }
  bool Unsigned(uint64_t) override { return Value("a number"); }
  bool Double(double value) override {
    result_->has_special_number |= !std::isfinite(value);
    return Value(std::isnan(value) ? "NaN" : "a number");
  }
  bool String(std::string& value) override {
    if (at_field_ && depth_ == 1) result_->text.swap(value);
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
  void Malformed(size_t byte, const std::string&) override {
    syntax_error_ = absl::StrCat("not valid JSON at column ", byte,
                                 byte > line_.size() ? ", the end of the line" : "");
  }
  void LoneSurrogate(size_t byte, const std::string& half) override {
    lone_surrogate_ = absl::StrCat("not valid JSON at column ", byte, ": ", half,
                                   " is half of a surrogate pair, which stands for no character; "
                                   "write both halves");
  }

  absl::Status Result() const {
    if (!lone_surrogate_.empty()) return absl::InvalidArgumentError(lone_surrogate_);
    const std::string problem = Problem();
    if (problem.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(
        problem, "; expected an object with a string ", QuoteInput(field_), " in each line",
        outermost_ == "an array" ? "; jq -c '.[]' FILE writes the elements of an array so" : ""));
  }

 private:
  // Empty if there is none.
  std::string Problem() const {
    if (!syntax_error_.empty()) return syntax_error_;
    if (outermost_ != "an object") return absl::StrCat(outermost_, " instead of an object");
    if (found_.empty()) return absl::StrCat("no field ", QuoteInput(field_));
    if (found_ == "a string") return "";
    return absl::StrCat("field ", QuoteInput(field_), " is ", found_);
  }

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

  const absl::string_view line_;
  const std::string& field_;
  JsonText* const result_;
  int64_t depth_ = 0;
  bool at_field_ = false;
  std::string syntax_error_, lone_surrogate_;  // empty if there is none
  absl::string_view outermost_;
  absl::string_view found_;  // kind of the last value of the field
};

}  // namespace

absl::StatusOr<LineReader> LineReader::Open(const std::string& path) {
  ASSIGN_OR_RETURN(std::unique_ptr<TextSource> source, TextSource::Open(path));
  LineReader reader(path, std::move(source));
  const absl::string_view mark = kByteOrderMark;
  ASSIGN_OR_RETURN(const absl::string_view head, reader.Head(mark.size()));
  if (head == mark) reader.begin_ = mark.size();
  return reader;
}

absl::StatusOr<bool> LineReader::ReadMore() {
  const size_t before = buffer_.size();
  buffer_.resize(before + kReadBytes);
  const absl::StatusOr<size_t> bytes = source_->Read(buffer_.data() + before, kReadBytes);
  buffer_.resize(before + (bytes.ok() ? *bytes : 0));
  if (!bytes.ok()) return bytes.status();
  return *bytes > 0;
}

absl::StatusOr<bool> LineReader::ReadMoreOfLine() {
  if (buffer_.size() <= kMaxLineBytes) return ReadMore();
  return absl::InvalidArgumentError(absl::StrCat(path_, ": a line of more than ", kMaxLineBytes,
                                                 " bytes; is it a text file with lines?"));
}

absl::StatusOr<absl::string_view> LineReader::Head(size_t bytes) {
  while (buffer_.size() - begin_ < bytes) {
    ASSIGN_OR_RETURN(const bool more, ReadMore());
    if (!more) break;
  }
  return absl::string_view(buffer_).substr(begin_, bytes);
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
    ASSIGN_OR_RETURN(const bool more, ReadMoreOfLine());
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
  DropReturned();
  for (size_t searched = 0;;) {
    // Once there is enough, the block ends at the last end of a line.
    if (buffer_.size() >= min_bytes) {
      const size_t end = absl::string_view(buffer_).substr(searched).rfind('\n');
      if (end != absl::string_view::npos) {
        TakeFront(searched + end + 1, lines);
        return true;
      }
      searched = buffer_.size();
    }
    ASSIGN_OR_RETURN(const bool more, ReadMoreOfLine());
    if (more) continue;
    TakeFront(buffer_.size(), lines);
    return !lines->empty();
  }
}

absl::StatusOr<bool> LineReader::NextPart(const PartRules& rules, std::string* part) {
  DropReturned();
  for (size_t searched = 0;;) {
    if (buffer_.size() >= rules.min_bytes) {
      const size_t split = rules.split(buffer_, searched);
      if (split > 0 || buffer_.size() > rules.max_bytes) {
        TakeFront(split > 0 ? split : buffer_.size(), part);
        return true;
      }
      // The last bytes are searched again with those that follow.
      constexpr size_t kLongestCharacter = 4;
      searched = buffer_.size() - std::min(buffer_.size(), kLongestCharacter);
    }
    ASSIGN_OR_RETURN(const bool more, ReadMore());
    if (more) continue;
    TakeFront(buffer_.size(), part);
    return false;
  }
}

void LineReader::DropReturned() {
  buffer_.erase(0, begin_);
  begin_ = 0;
}

// The larger part keeps its memory.
void LineReader::TakeFront(size_t bytes, std::string* front) {
  front->assign(buffer_, bytes);
  buffer_.resize(bytes);
  front->swap(buffer_);
}

bool IsBlankLine(absl::string_view line) {
  return line.find_first_not_of(" \t\r") == absl::string_view::npos;
}

absl::Status TextOfJson(absl::string_view line, const std::string& field, JsonText* found) {
  found->has_special_number = false;
  if (IsBlankLine(line)) {
    return absl::InvalidArgumentError(
        absl::StrCat("an empty line; expected an object with a string ", QuoteInput(field)));
  }
  TextHandler handler(line, field, found);
  ReadJson(line, handler);
  return handler.Result();
}

}  // namespace unipool
