#include "launch/config_text.h"

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

namespace unipool {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::TextFormat;

// Lines and columns from 0, as the parser counts them; line -1 is no place in particular.
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

std::string Place(const std::string& file, int line, int column) {
  return line < 0 ? file : absl::StrCat(file, ":", line + 1, ":", column + 1);
}

// Byte in `line` of a column; the parser lets tabs go to the next multiple of eight.
size_t ByteOfColumn(const std::string& line, int column) {
  size_t byte = 0;
  for (int at = 0; byte < line.size() && at < column; ++byte) {
    at += line[byte] == '\t' ? 8 - at % 8 : 1;
  }
  return byte;
}

// The name before a colon that ends right before the place: the field whose value stands there.
std::string FieldBefore(const std::string& text, const ParseError& error) {
  const std::vector<std::string> lines = absl::StrSplit(text, '\n');
  if (error.line < 0 || error.line >= static_cast<int>(lines.size())) return "";
  const std::string& line = lines[error.line];
  size_t end = ByteOfColumn(line, error.column);
  while (end > 0 && (absl::ascii_isspace(line[end - 1]) || line[end - 1] == '-')) --end;
  if (end == 0 || line[end - 1] != ':') return "";
  --end;
  size_t begin = end;
  while (begin > 0 && (absl::ascii_isalnum(line[begin - 1]) || line[begin - 1] == '_')) --begin;
  return line.substr(begin, end - begin);
}

// What stands between the quotes number `index` of a message of the parser.
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

// The parser does not say which message its enum field is in; enum fields have names of their own.
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

// "Expected integer, got: abc" and its like, with the field's name in front.
std::string WrongValue(const std::string& message, const std::string& field) {
  static constexpr std::pair<const char*, const char*> kKinds[] = {
      {"Expected integer, got: ", "expected an integer, got "},
      {"Expected double, got: ", "expected a number, got "},
      {"Expected string, got: ", "expected a text in quotes, got "},
      {"Expected identifier, got: ", "expected a name, got "}};
  const std::string front = field.empty() ? "" : absl::StrCat(field, ": ");
  for (const auto& [theirs, ours] : kKinds) {
    if (absl::StartsWith(message, theirs)) {
      return absl::StrCat(front, ours, message.substr(std::string(theirs).size()));
    }
  }
  std::string lower = message;
  if (!lower.empty()) lower[0] = absl::ascii_tolower(lower[0]);
  return front + lower;
}

std::string Explain(const ParseError& error, const std::string& text, const Descriptor& root) {
  const std::string& message = error.message;
  if (absl::StartsWith(message, "Message type ") && absl::StrContains(message, "no field named")) {
    const Descriptor* type = FindType(root, Quoted(message, 0));
    if (type != nullptr)
      return absl::StrCat("unknown field ", NotAField(Quoted(message, 1), *type));
  }
  if (absl::StartsWith(message, "Unknown enumeration value of ")) {
    const FieldDescriptor* field = FindEnumField(root, Quoted(message, 1));
    if (field != nullptr) {
      return absl::StrCat(field->name(), ": expected ",
                          NotAValue(Quoted(message, 0), *field->enum_type()));
    }
  }
  if (absl::StartsWith(message, "Invalid value for boolean field ")) {
    return absl::StrCat(Quoted(message, 0), ": expected true or false, got ", Quoted(message, 1));
  }
  if (absl::StartsWith(message, "Non-repeated field ")) {
    return absl::StrCat(Quoted(message, 0), ": given twice, expected once");
  }
  return WrongValue(message, FieldBefore(text, error));
}

void NoteOrigins(const Message& message, const TextFormat::ParseInfoTree& places,
                 const std::string& file, const std::string& prefix, FieldOrigins* origins) {
  std::vector<const FieldDescriptor*> fields;
  message.GetReflection()->ListFields(message, &fields);
  for (const FieldDescriptor* field : fields) {
    const TextFormat::ParseLocation place = places.GetLocation(field, -1);
    const std::string path = prefix + field->name();
    (*origins)[path] = Place(file, place.line, place.column);
    const TextFormat::ParseInfoTree* inner =
        field->message_type() == nullptr ? nullptr : places.GetTreeForNested(field, -1);
    if (inner == nullptr) continue;
    NoteOrigins(message.GetReflection()->GetMessage(message, field), *inner, file, path + ".",
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
    NoteOrigins(*message, places, file, "", origins);
    return absl::OkStatus();
  }
  const ParseError error = errors.error().value_or(ParseError{-1, -1, "cannot be parsed"});
  std::string line = absl::StrCat(Place(file, error.line, error.column), ": ",
                                  Explain(error, text, *message->GetDescriptor()));
  std::replace_if(line.begin(), line.end(), absl::ascii_iscntrl, ' ');
  return absl::InvalidArgumentError(line);
}

}  // namespace unipool
