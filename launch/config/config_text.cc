#include "launch/config/config_text.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "runtime/quote.h"

namespace unipool {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

// An error of the parser. Lines and columns are counted from 0; line -1 means an unknown place.
struct ParseError {
  int line;
  int column;
  std::string message;
};

class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& message) override {
    if (!error_) error_ = ParseError{line, column, message};
  }
  const std::optional<ParseError>& error() const { return error_; }

 private:
  std::optional<ParseError> error_;
};

std::string FileLocation(const std::string& file, int line, int column) {
  return line < 0 ? file : absl::StrCat(file, ":", line + 1, ":", column + 1);
}

// Offset in `text` of the place of `error`. The parser counts a tab as the columns up to the next
// multiple of eight.
size_t ByteOf(const std::string& text, const ParseError& error) {
  size_t byte = 0;
  for (int line = 0; line < error.line && byte < text.size(); ++byte) line += text[byte] == '\n';
  for (int at = 0; byte < text.size() && at < error.column; ++byte) {
    at += text[byte] == '\t' ? 8 - at % 8 : 1;
  }
  return byte;
}

// The parser reports some errors at the token after the wrong one. Moves the place of `error` back
// to the last occurrence of `token` before it.
void MoveBackTo(const std::string& token, const std::string& text, ParseError* error) {
  const size_t end = ByteOf(text, *error);
  if (error->line < 0 || token.empty() || end < token.size()) return;
  const size_t begin = text.rfind(token, end - token.size());
  if (begin == std::string::npos) return;
  error->line = static_cast<int>(std::count(text.begin(), text.begin() + begin, '\n'));
  const size_t line_begin = text.rfind('\n', begin) + 1;  // npos + 1 is 0
  error->column = 0;
  for (size_t byte = line_begin; byte < begin; ++byte) {
    error->column += text[byte] == '\t' ? 8 - error->column % 8 : 1;
  }
}

// If the place of `error` is the value in `field: value`, the name of that field; else "".
std::string FieldBefore(const std::string& text, const ParseError& error) {
  size_t end = error.line < 0 ? 0 : ByteOf(text, error);
  while (end > 0 && (absl::ascii_isspace(text[end - 1]) || text[end - 1] == '-')) --end;
  if (end == 0 || text[end - 1] != ':') return "";
  --end;
  size_t begin = end;
  while (begin > 0 && (absl::ascii_isalnum(text[begin - 1]) || text[begin - 1] == '_')) --begin;
  return text.substr(begin, end - begin);
}

// The quoted word number `index`, from 0, in a message of the parser.
std::string Quoted(const std::string& message, size_t index) {
  const std::vector<std::string> parts = absl::StrSplit(message, '"');
  return 2 * index + 1 < parts.size() ? parts[2 * index + 1] : "";
}

const Descriptor* FindType(const Descriptor& root, const std::string& full_name) {
  if (root.full_name() == full_name) return &root;
  for (int i = 0; i < root.field_count(); ++i) {
    const Descriptor* inner = root.field(i)->message_type();
    const Descriptor* found = inner == nullptr ? nullptr : FindType(*inner, full_name);
    if (found != nullptr) return found;
  }
  return nullptr;
}

// The parser reports the name of an enum field without its message, so this finds the first enum
// field of that name. Names of enum fields are unique in our messages.
const FieldDescriptor* FindEnumField(const Descriptor& root, const std::string& name) {
  for (int i = 0; i < root.field_count(); ++i) {
    const FieldDescriptor* field = root.field(i);
    if (field->enum_type() != nullptr && field->name() == name) return field;
    const Descriptor* inner = field->message_type();
    const FieldDescriptor* found = inner == nullptr ? nullptr : FindEnumField(*inner, name);
    if (found != nullptr) return found;
  }
  return nullptr;
}

// Translates the parser's "Expected integer, got: abc" and similar messages.
std::string WrongValue(const std::string& message, const std::string& field) {
  static constexpr std::pair<const char*, const char*> kKinds[] = {
      {"Expected integer, got: ", "an integer"},
      {"Expected double, got: ", "a number"},
      {"Expected string, got: ", "a text in quotes"},
      {"Expected identifier, got: ", "a name"}};
  const std::string front = field.empty() ? "" : absl::StrCat(CutInput(field), ": ");
  for (const auto& [prefix, wanted] : kKinds) {
    if (!absl::StartsWith(message, prefix)) continue;
    const std::string found = message.substr(std::string(prefix).size());
    return absl::StrCat(front, "found ", found.empty() ? "the end of the file" : CutInput(found),
                        "; write ", wanted);
  }
  if (absl::StartsWith(message, "Integer out of range (")) {
    const std::string found = message.substr(message.find('(') + 1);
    return absl::StrCat(front, "found ", CutInput(found.substr(0, found.find(')'))),
                        ", which is out of range; write a smaller number");
  }
  std::string lower = message;
  if (!lower.empty()) lower[0] = absl::ascii_tolower(lower[0]);
  lower = std::string(absl::StripSuffix(lower, "."));
  return absl::StrCat(front, lower.size() > 2 * kMaxQuotedBytes ? CutInput(lower) : lower,
                      "; correct the text here");
}

// Translates `error` to "FIELD: what was found; what to do" and moves its place to the cause.
std::string Explain(const std::string& text, const Descriptor& root, ParseError* error) {
  const std::string message = error->message;
  const std::string first = Quoted(message, 0), second = Quoted(message, 1);
  if (absl::StartsWith(message, "Message type ") && absl::StrContains(message, "no field named")) {
    MoveBackTo(second, text, error);
    const Descriptor* type = FindType(root, first);
    return absl::StrCat(CutInput(second), ": ",
                        type == nullptr ? "unknown field" : NotAField(second, *type));
  }
  if (absl::StartsWith(message, "Unknown enumeration value of ")) {
    MoveBackTo(first, text, error);
    const FieldDescriptor* field = FindEnumField(root, second);
    return absl::StrCat(CutInput(second), ": ",
                        field == nullptr
                            ? absl::StrCat("found ", CutInput(first), "; write another name")
                            : NotAValue(first, *field->enum_type()));
  }
  if (absl::StartsWith(message, "Invalid value for boolean field ")) {
    MoveBackTo(second, text, error);
    return absl::StrCat(CutInput(first), ": found ", CutInput(second), "; write true or false");
  }
  if (absl::StartsWith(message, "Non-repeated field ")) {
    MoveBackTo(first, text, error);
    return absl::StrCat(first, ": set twice; remove one of them");
  }
  return WrongValue(message, FieldBefore(text, *error));
}

void RecordOrigins(const Message& message, const TextFormat::ParseInfoTree& places,
                   const std::string& file, const std::string& prefix, FieldOrigins* origins);

// Records the places of the elements of a list of messages.
void RecordListOrigins(const Message& message, const FieldDescriptor& field,
                       const TextFormat::ParseInfoTree& places, const std::string& file,
                       const std::string& path, FieldOrigins* origins) {
  const auto& access = *message.GetReflection();
  for (int i = 0; i < access.FieldSize(message, &field); ++i) {
    const TextFormat::ParseLocation place = places.GetLocation(&field, i);
    const std::string element = absl::StrCat(path, "[", i, "]");
    (*origins)[element] = FileLocation(file, place.line, place.column);
    origins->try_emplace(path, (*origins)[element]);
    const TextFormat::ParseInfoTree* inner = places.GetTreeForNested(&field, i);
    if (inner == nullptr) continue;
    RecordOrigins(access.GetRepeatedMessage(message, &field, i), *inner, file, element + ".",
                  origins);
  }
}

void RecordOrigins(const Message& message, const TextFormat::ParseInfoTree& places,
                   const std::string& file, const std::string& prefix, FieldOrigins* origins) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    if (field->is_repeated()) {
      RecordListOrigins(message, *field, places, file, prefix + field->name(), origins);
      continue;
    }
    const TextFormat::ParseLocation place = places.GetLocation(field, -1);
    const std::string path = prefix + field->name();
    (*origins)[path] = FileLocation(file, place.line, place.column);
    const TextFormat::ParseInfoTree* inner =
        field->message_type() == nullptr ? nullptr : places.GetTreeForNested(field, -1);
    if (inner == nullptr) continue;
    RecordOrigins(message.GetReflection()->GetMessage(message, field), *inner, file, path + ".",
                  origins);
  }
}

}  // namespace

absl::Status ParseConfigText(const std::string& text, const std::string& file, Message* message,
                             FieldOrigins* origins) {
  FirstError errors;
  TextFormat::ParseInfoTree places;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  parser.WriteLocationsTo(&places);
  if (parser.ParseFromString(text, message)) {
    RecordOrigins(*message, places, file, "", origins);
    return absl::OkStatus();
  }
  ParseError error = errors.error().value_or(ParseError{-1, -1, "cannot be parsed"});
  const std::string what = Explain(text, *message->GetDescriptor(), &error);
  std::string line = absl::StrCat(FileLocation(file, error.line, error.column), ": ", what);
  std::replace_if(line.begin(), line.end(), absl::ascii_iscntrl, ' ');
  return absl::InvalidArgumentError(line);
}

}  // namespace unipool
