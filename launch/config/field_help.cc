#include "launch/config/field_help.h"

#include <glog/logging.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "configs/run.pb.h"
#include "launch/config/config_fields.h"
#include "launch/config/embedded_text.h"
#include "launch/config/nearest_name.h"
#include "runtime/status.h"

namespace unipool {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;

constexpr size_t kColumns = 96;
constexpr char kSmall[] = "small", kStarter[] = "starter.textproto";

absl::string_view EmbeddedFile(absl::string_view name) {
  for (const EmbeddedText& file : EmbeddedTexts()) {
    if (file.name == name) return file.text;
  }
  LOG(FATAL) << name << " is not a part of the program";
  return "";
}

// The definition of the message Run with its comments, which compiled messages do not have.
const Descriptor& Definition() {
  static const Descriptor* const definition = [] {
    google::protobuf::FileDescriptorSet files;
    const absl::string_view bytes = ConfigDescriptors();
    CHECK(files.ParseFromArray(bytes.data(), static_cast<int>(bytes.size())));
    static google::protobuf::DescriptorPool pool;
    for (const auto& file : files.file()) CHECK(pool.BuildFile(file) != nullptr) << file.name();
    return pool.FindMessageTypeByName(config::Run::descriptor()->full_name());
  }();
  CHECK(definition != nullptr);
  return *definition;
}

// The comment above a field, message or value, in one line.
template <typename Element>
std::string Comment(const Element& element) {
  google::protobuf::SourceLocation location;
  if (!element.GetSourceLocation(&location)) return "";
  std::string text = absl::StrReplaceAll(location.leading_comments, {{"\n", " "}});
  absl::RemoveExtraAsciiWhitespace(&text);
  return text;
}

// The lines of `text`, each after `prefix`, of at most kColumns columns.
std::string Wrapped(absl::string_view text, const std::string& prefix) {
  std::string lines, line = prefix;
  for (const absl::string_view word : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    if (line.size() + 1 + word.size() > kColumns && line != prefix) {
      absl::StrAppend(&lines, line, "\n");
      line = prefix;
    }
    absl::StrAppend(&line, line == prefix ? "" : " ", word);
  }
  return absl::StrCat(lines, line, "\n");
}

std::string FirstSentence(const std::string& text) {
  const size_t end = text.find(". ");
  return end == std::string::npos ? text : text.substr(0, end + 1);
}

std::string Type(const FieldDescriptor& field) {
  const std::string type = field.enum_type() != nullptr      ? std::string("enum")
                           : field.message_type() != nullptr ? std::string("message")
                                                             : field.type_name();
  return field.is_repeated() ? absl::StrCat("list of ", type) : type;
}

std::string Default(const FieldDescriptor& field) {
  google::protobuf::FieldDescriptorProto definition;
  field.CopyTo(&definition);
  if (!definition.has_default_value()) return "";
  const char* quote = field.type() == FieldDescriptor::TYPE_STRING ? "\"" : "";
  return absl::StrCat(", default ", quote, definition.default_value(), quote);
}

bool IsShown(const FieldDescriptor& field) { return !field.options().deprecated(); }

std::string MessageHelp(const Descriptor& type, const std::string& path) {
  std::string text =
      path.empty() ? "" : absl::StrCat(path, ": message\n", Wrapped(Comment(type), "  "));
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (!IsShown(field)) continue;
    const std::string name = absl::StrCat(path, path.empty() ? "" : ".", field.name());
    const std::string meaning = field.message_type() != nullptr && Comment(field).empty()
                                    ? Comment(*field.message_type())
                                    : Comment(field);
    absl::StrAppend(&text, name, ": ", Type(field), Default(field), "\n",
                    Wrapped(FirstSentence(meaning), "    "));
  }
  return text;
}

std::string ScalarHelp(const FieldDescriptor& field, const std::string& path) {
  std::string text =
      absl::StrCat(path, ": ", Type(field), Default(field), "\n", Wrapped(Comment(field), "  "));
  if (field.enum_type() == nullptr) return text;
  for (int i = 0; i < field.enum_type()->value_count(); ++i) {
    const auto& value = *field.enum_type()->value(i);
    absl::StrAppend(&text, "  ", value.name(), "\n", Wrapped(Comment(value), "      "));
  }
  return text;
}

// The text of a config, with the first sentence of each field's comment above it.
std::string Commented(absl::string_view config) {
  std::string text;
  const Descriptor* message = &Definition();
  std::vector<const Descriptor*> outer;
  for (const absl::string_view line : absl::StrSplit(config, '\n')) {
    const absl::string_view code = absl::StripAsciiWhitespace(line);
    if (code.empty() || absl::StartsWith(code, "#")) continue;
    const std::string indent(line.size() - absl::StripLeadingAsciiWhitespace(line).size(), ' ');
    if (code == "}") {
      message = outer.back();
      outer.pop_back();
    } else {
      const std::string name(code.substr(0, code.find_first_of(" :{")));
      const FieldDescriptor* field = message->FindFieldByName(name);
      CHECK(field != nullptr) << name;
      const bool opens = absl::EndsWith(code, "{");
      const std::string meaning =
          opens ? Comment(*field->message_type()) : FirstSentence(Comment(*field));
      if (opens) absl::StrAppend(&text, "\n");
      text += Wrapped(opens ? FirstSentence(meaning) : meaning, indent + "# ");
      if (opens) {
        outer.push_back(message);
        message = field->message_type();
      }
    }
    absl::StrAppend(&text, line, "\n");
  }
  return text;
}

}  // namespace

absl::StatusOr<std::string> FieldHelp(const std::string& path) {
  const Descriptor* message = &Definition();
  if (path.empty()) return MessageHelp(*message, "");
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  for (size_t i = 0; i < names.size(); ++i) {
    const FieldDescriptor* field = message->FindFieldByName(names[i]);
    if (field == nullptr || !IsShown(*field)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", NotAField(names[i], *message)));
    }
    const bool is_last = i + 1 == names.size();
    if (field->message_type() == nullptr) {
      if (is_last) return ScalarHelp(*field, path);
      return absl::InvalidArgumentError(absl::StrCat(path, ": ", names[i], " has no fields"));
    }
    message = field->message_type();
    if (is_last) return MessageHelp(*message, path);
  }
  return absl::InternalError(path);
}

std::string StarterSizes() {
  std::vector<std::string> sizes = {kSmall};
  for (const EmbeddedText& file : EmbeddedTexts()) {
    absl::string_view name = file.name;
    if (absl::ConsumePrefix(&name, "unipool_") && absl::ConsumeSuffix(&name, ".textproto")) {
      sizes.emplace_back(name);
    }
  }
  return absl::StrJoin(sizes, "|");
}

absl::StatusOr<std::string> StarterConfig(const std::string& size) {
  const std::vector<std::string> sizes = absl::StrSplit(StarterSizes(), '|');
  for (const std::string& known : sizes) {
    if (size != known) continue;
    const std::string file =
        size == kSmall ? kStarter : absl::StrCat("unipool_", size, ".textproto");
    return absl::StrCat(
        "# A config of UniPool. Set data.prefix and run_dir, then:\n"
        "#   unipool data prepare --input TEXT --output PREFIX    makes the token files\n"
        "#   unipool config show THIS_FILE --ranks N              parameters, memory, all fields\n"
        "#   unipool config help FIELD                            what a field means\n"
        "#   unipool train --config THIS_FILE                     trains, or resumes\n\n",
        Commented(EmbeddedFile(file)));
  }
  const std::string meant = DidYouMean(size, sizes);
  return absl::InvalidArgumentError(absl::StrCat(
      "--size=", size, ": write ", absl::StrJoin(sizes, " or "), meant.empty() ? "" : "; ", meant));
}

}  // namespace unipool
