#include "launch/json_lines.h"

#include <sys/types.h>

#include <cerrno>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace unipool {
namespace {

using Json = nlohmann::json;

constexpr size_t kFileBuffer = 1 << 18;

// Keeps one string of the outermost object and walks over everything else without storing it.
class TextHandler : public nlohmann::json_sax<Json> {
 public:
  TextHandler(const std::string& field, std::string* text) : field_(field), text_(text) {}

  bool null() override { return Value("null"); }
  bool boolean(bool) override { return Value("a boolean"); }
  bool number_integer(number_integer_t) override { return Value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return Value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return Value("a number"); }
  bool binary(binary_t&) override { return Value("binary"); }
  bool string(string_t& value) override {
    if (at_field_ && depth_ == 1) text_->swap(value);
    return Value("a string");
  }
  bool start_object(size_t) override { return Value("an object") && Enter(); }
  bool start_array(size_t) override { return Value("an array") && Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }
  bool key(string_t& name) override {
    if (depth_ == 1) at_field_ = name == field_;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const Json::exception&) override {
    error_column_ = position;
    return false;
  }

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
  size_t error_column_ = 0;  // from 1; 0 = none
  std::string outermost_;
  std::string found_;  // kind of the field's last value
};

}  // namespace

absl::StatusOr<LineReader> LineReader::Open(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot open"));
  std::setvbuf(file, nullptr, _IOFBF, kFileBuffer);
  return LineReader(path, file);
}

LineReader::LineReader(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}

LineReader::LineReader(LineReader&& other) noexcept
    : path_(std::move(other.path_)),
      file_(std::exchange(other.file_, nullptr)),
      buffer_(std::exchange(other.buffer_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      line_number_(other.line_number_) {}

LineReader::~LineReader() {
  if (file_ != nullptr) std::fclose(file_);
  std::free(buffer_);
}

absl::StatusOr<bool> LineReader::Next(absl::string_view* line) {
  errno = 0;
  const ssize_t bytes = getline(&buffer_, &capacity_, file_);
  if (bytes < 0 && (std::ferror(file_) != 0 || errno != 0)) {
    return absl::ErrnoToStatus(errno,
                               absl::StrCat(path_, ": cannot read after line ", line_number_));
  }
  if (bytes < 0) return false;
  ++line_number_;
  *line = absl::StripSuffix(absl::string_view(buffer_, static_cast<size_t>(bytes)), "\n");
  return true;
}

absl::Status TextOfJson(absl::string_view line, const std::string& field, std::string* text) {
  if (line.find_first_not_of(" \t\r") == absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("an empty line; expected an object with a string \"", field, "\""));
  }
  TextHandler handler(field, text);
  Json::sax_parse(line.data(), line.data() + line.size(), &handler);
  return handler.Result();
}

}  // namespace unipool
