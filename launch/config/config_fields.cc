#include "launch/config/config_fields.h"

#include <glog/logging.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/message.h>
#include <google/protobuf/text_format.h>

#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "launch/config/nearest_name.h"
#include "runtime/quote.h"
#include "runtime/status.h"

namespace unipool {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::EnumValueDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Without former names; each with `prefix` in front.
std::vector<std::string> FieldNames(const Descriptor& type, const std::string& prefix = "") {
  std::vector<std::string> names;
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (!field.options().deprecated()) names.push_back(prefix + field.name());
  }
  return names;
}

std::string InParentheses(const std::string& hint) {
  return hint.empty() ? "" : absl::StrCat(" (", hint, ")");
}

bool IsMessage(const FieldDescriptor& field) {
  return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

struct FoundField {
  const Message* holder;  // the message around the field; a default instance if that is not set
  const FieldDescriptor* field;
};

FoundField FindField(const Message& message, const std::string& path) {
  FoundField found{&message, nullptr};
  for (const std::string& name : std::vector<std::string>(absl::StrSplit(path, '.'))) {
    if (found.field != nullptr) {
      found.holder = &found.holder->GetReflection()->GetMessage(*found.holder, found.field);
    }
    found.field = found.holder->GetDescriptor()->FindFieldByName(name);
    CHECK(found.field != nullptr) << "no field " << path;
  }
  return found;
}

// Parses with `parse(text, &value)` and stores with `set(value)`. `wanted` describes a valid value.
template <typename T, typename Parse, typename Set>
absl::Status ParseAndSet(const std::string& text, const char* wanted, Parse parse, Set set) {
  T value{};
  if (!parse(text, &value)) {
    return absl::InvalidArgumentError(
        absl::StrCat("found ", text.empty() ? "nothing" : CutInput(text), "; write ", wanted));
  }
  set(value);
  return absl::OkStatus();
}

absl::Status SetEnum(const std::string& text, const FieldDescriptor& field, Message* holder) {
  const EnumValueDescriptor* value = field.enum_type()->FindValueByName(text);
  if (value == nullptr) {
    return absl::InvalidArgumentError(NotAValue(text, *field.enum_type()));
  }
  holder->GetReflection()->SetEnum(holder, &field, value);
  return absl::OkStatus();
}

// Accepts both data.prefix=text and data.prefix="text".
std::string WithoutQuotes(const std::string& text) {
  const bool quoted = text.size() >= 2 && text.front() == '"' && text.back() == '"';
  return quoted ? text.substr(1, text.size() - 2) : text;
}

absl::Status SetFromText(const std::string& text, const FieldDescriptor& field, Message* holder) {
  const Reflection& access = *holder->GetReflection();
  const auto to_integer = [](const std::string& from, auto* value) {
    return absl::SimpleAtoi(from, value);
  };
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return ParseAndSet<int32_t>(text, "an integer from -2147483648 to 2147483647", to_integer,
                                  [&](int32_t value) { access.SetInt32(holder, &field, value); });
    case FieldDescriptor::CPPTYPE_INT64:
      return ParseAndSet<int64_t>(text, "an integer", to_integer,
                                  [&](int64_t value) { access.SetInt64(holder, &field, value); });
    case FieldDescriptor::CPPTYPE_UINT64:
      return ParseAndSet<uint64_t>(
          text, "an integer of at least 0", to_integer,
          [&](uint64_t value) { access.SetUInt64(holder, &field, value); });
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return ParseAndSet<double>(text, "a number", absl::SimpleAtod,
                                 [&](double value) { access.SetDouble(holder, &field, value); });
    case FieldDescriptor::CPPTYPE_FLOAT:
      return ParseAndSet<float>(text, "a number", absl::SimpleAtof,
                                [&](float value) { access.SetFloat(holder, &field, value); });
    case FieldDescriptor::CPPTYPE_BOOL:
      return ParseAndSet<bool>(text, "true or false", absl::SimpleAtob,
                               [&](bool value) { access.SetBool(holder, &field, value); });
    case FieldDescriptor::CPPTYPE_ENUM:
      return SetEnum(text, field, holder);
    case FieldDescriptor::CPPTYPE_STRING:
      access.SetString(holder, &field, WithoutQuotes(text));
      return absl::OkStatus();
    default:
      LOG(FATAL) << field.full_name() << " has a type that overrides cannot set";
  }
}

// The errors begin with the path up to the field that they are about.
absl::Status SetAtPath(const std::string& path, const std::string& value, Message* message) {
  const std::vector<std::string> names = absl::StrSplit(path, '.');
  std::string at;
  const auto error = [&at](const auto&... words) {
    return absl::InvalidArgumentError(absl::StrCat(at, ": ", words...));
  };
  for (size_t i = 0; i < names.size(); ++i) {
    absl::StrAppend(&at, i == 0 ? "" : ".", names[i]);
    const Descriptor& type = *message->GetDescriptor();
    const FieldDescriptor* field = type.FindFieldByName(names[i]);
    if (field == nullptr) return error(NotAField(names[i], type));
    if (field->is_repeated()) return error("is a list; set it in a config file");
    const bool is_last = i + 1 == names.size();
    if (is_last && IsMessage(*field)) {
      return error("holds other fields; set one of ",
                   absl::StrJoin(FieldNames(*field->message_type(), at + "."), ", "));
    }
    if (!is_last && !IsMessage(*field)) return error("has no fields inside; write ", at, "=VALUE");
    if (is_last) {
      const absl::Status status = SetFromText(value, *field, message);
      return status.ok() ? status : error(status.message());
    }
    message = message->GetReflection()->MutableMessage(message, field);
  }
  return absl::OkStatus();
}

// Prints the default as text and parses it as a value.
void SetToDefault(const FieldDescriptor& field, Message* holder) {
  std::string text;
  google::protobuf::TextFormat::PrintFieldValueToString(*holder, &field, -1, &text);
  if (field.cpp_type() == FieldDescriptor::CPPTYPE_STRING) text = field.default_value_string();
  const absl::Status status = SetFromText(text, field, holder);
  CHECK(status.ok()) << field.full_name() << ": " << status;
}

}  // namespace

absl::Status SetField(const std::string& assignment, Message* message, FieldOrigins* origins) {
  const std::string origin = absl::StrCat("--set ", CutInput(assignment));
  const size_t equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(origin, ": found no FIELD=VALUE; write for example --set model.layers=4"));
  }
  const std::string path = assignment.substr(0, equals);
  const absl::Status status = SetAtPath(path, assignment.substr(equals + 1), message);
  if (!status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(origin, ": ", status.message()));
  }
  (*origins)[path] = origin;
  return absl::OkStatus();
}

void MakeDefaultsExplicit(Message* message) {
  const Descriptor& type = *message->GetDescriptor();
  const Reflection& access = *message->GetReflection();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.options().deprecated()) continue;
    if (field.is_repeated()) {
      for (int j = 0; IsMessage(field) && j < access.FieldSize(*message, &field); ++j) {
        MakeDefaultsExplicit(access.MutableRepeatedMessage(message, &field, j));
      }
    } else if (IsMessage(field)) {
      MakeDefaultsExplicit(access.MutableMessage(message, &field));
    } else if (!access.HasField(*message, &field)) {
      SetToDefault(field, message);
    }
  }
}

std::vector<std::string> FieldPaths(const Message& message) {
  const Descriptor& type = *message.GetDescriptor();
  std::vector<std::string> paths;
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    if (field.options().deprecated()) continue;
    if (!IsMessage(field) || field.is_repeated()) {
      paths.push_back(field.name());
      continue;
    }
    const Message& inside = message.GetReflection()->GetMessage(message, &field);
    for (const std::string& path : FieldPaths(inside)) {
      paths.push_back(absl::StrCat(field.name(), ".", path));
    }
  }
  return paths;
}

bool HasValue(const Message& message, const std::string& path) {
  const FoundField found = FindField(message, path);
  return found.holder->GetReflection()->HasField(*found.holder, found.field);
}

bool HasValueOrDefault(const Message& message, const std::string& path) {
  return HasValue(message, path) || FindField(message, path).field->has_default_value();
}

double NumberAt(const Message& message, const std::string& path) {
  const FoundField found = FindField(message, path);
  const Reflection& access = *found.holder->GetReflection();
  switch (found.field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return access.GetInt32(*found.holder, found.field);
    case FieldDescriptor::CPPTYPE_INT64:
      return static_cast<double>(access.GetInt64(*found.holder, found.field));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return access.GetDouble(*found.holder, found.field);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return access.GetFloat(*found.holder, found.field);
    default:
      LOG(FATAL) << path << " is not a number";
  }
}

std::string TextAt(const Message& message, const std::string& path) {
  const FoundField found = FindField(message, path);
  std::string text;
  if (!found.field->is_repeated()) {
    google::protobuf::TextFormat::PrintFieldValueToString(*found.holder, found.field, -1, &text);
    return text;
  }
  google::protobuf::TextFormat::Printer printer;
  printer.SetSingleLineMode(true);
  const int size = found.holder->GetReflection()->FieldSize(*found.holder, found.field);
  for (int i = 0; i < size; ++i) {
    std::string element;
    printer.PrintFieldValueToString(*found.holder, found.field, i, &element);
    absl::StrAppend(&text, i == 0 ? "{ " : " { ", element, "}");
  }
  return absl::StrCat("[", text, "]");
}

std::string NotAField(const std::string& name, const Descriptor& type) {
  const std::vector<std::string> names = FieldNames(type);
  for (int i = 0; i < type.field_count(); ++i) {
    const Descriptor* message = type.field(i)->message_type();
    if (message == nullptr || type.field(i)->options().deprecated()) continue;
    const FieldDescriptor* inner = message->FindFieldByName(name);
    if (inner == nullptr || inner->options().deprecated()) continue;
    return absl::StrCat("not a field of ", type.name(), "; did you mean \"", type.field(i)->name(),
                        ".", name, "\"?");
  }
  return absl::StrCat("not a field of ", type.name(), "; use one of ", absl::StrJoin(names, ", "),
                      InParentheses(DidYouMean(name, names)));
}

std::string NotAValue(const std::string& name, const EnumDescriptor& type) {
  std::vector<std::string> names;
  for (int i = 0; i < type.value_count(); ++i) names.push_back(type.value(i)->name());
  return absl::StrCat("found ", name.empty() ? "nothing" : CutInput(name), "; write ",
                      absl::StrJoin(names, " or "), InParentheses(DidYouMean(name, names)));
}

}  // namespace unipool
