// Fields of a config message by their dotted path ("model.layers"), through reflection: reading,
// overriding, naming, and making defaults explicit. Knows no particular message.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace google::protobuf {
class Descriptor;
class EnumDescriptor;
class Message;
}  // namespace google::protobuf

namespace unipool {

// Where a field was given, by path: "configs/x.textproto:3:5" or "--set model.layers=4".
using FieldOrigins = std::map<std::string, std::string>;

// Sets one field from "model.layers=4". Errors name the assignment and what was expected.
absl::Status SetField(const std::string& assignment, google::protobuf::Message* message,
                      FieldOrigins* origins);

// Sets every field that has no value to its default, inside messages too.
void MakeDefaultsExplicit(google::protobuf::Message* message);

// Every field that is no message, inside messages too, in the order of the schema.
std::vector<std::string> FieldPaths(const google::protobuf::Message& message);

// The path must exist. A field without a value reads as its default.
bool HasValueOrDefault(const google::protobuf::Message& message, const std::string& path);
bool HasValue(const google::protobuf::Message& message, const std::string& path);
double NumberAt(const google::protobuf::Message& message, const std::string& path);
// A list reads as "[{ ... } { ... }]".
std::string TextAt(const google::protobuf::Message& message, const std::string& path);

// `"hiden" in Model (fields: vocab, hidden, ...; did you mean "hidden"?)`
std::string NotAField(const std::string& name, const google::protobuf::Descriptor& type);
// `NORM or SOFTMAX, got "NRM" (did you mean "NORM"?)`
std::string NotAValue(const std::string& name, const google::protobuf::EnumDescriptor& type);

}  // namespace unipool
