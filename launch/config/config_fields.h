// Access to the fields of any config message by dotted path, such as "model.layers". A path names
// singular fields only, from the message given to the field; it must exist unless a function says
// otherwise. Fields marked `deprecated` are former names (renamed_fields.h): SetField accepts them,
// but no list of fields shows them.
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

// Maps the path of a field to the place where it was set: "configs/x.textproto:3:5" or
// "--set model.layers=4". Errors begin with this place.
using FieldOrigins = std::map<std::string, std::string>;

// Sets one field from an assignment such as "model.layers=4", and records it in `origins`.
// INVALID_ARGUMENT if the path does not exist, is a list or a message, or the value does not parse.
absl::Status SetField(const std::string& assignment, google::protobuf::Message* message,
                      FieldOrigins* origins);

// Sets every field without a value to its default, also inside messages and lists.
void MakeDefaultsExplicit(google::protobuf::Message* message);

// Paths of all fields that are not messages, in the order of the definition. A list counts as one
// field, also if its elements are messages.
std::vector<std::string> FieldPaths(const google::protobuf::Message& message);

// True if the field was set.
bool HasValue(const google::protobuf::Message& message, const std::string& path);
// True if the field was set or the definition gives it a default.
bool HasValueOrDefault(const google::protobuf::Message& message, const std::string& path);
// Value of a field of type int32, int64, float or double; its default if it was not set.
double NumberAt(const google::protobuf::Message& message, const std::string& path);
// Value of a field as text, its default if it was not set; a list as "[{ ... } { ... }]".
std::string TextAt(const google::protobuf::Message& message, const std::string& path);

// Part of an error about a name that is no field of `type`:
// `not a field of Model; use one of vocab, hidden, layers (did you mean "hidden"?)`
std::string NotAField(const std::string& name, const google::protobuf::Descriptor& type);
// Part of an error about a name that is no value of `type`:
// `found NRM; write NORM or SOFTMAX (did you mean "NORM"?)`
std::string NotAValue(const std::string& name, const google::protobuf::EnumDescriptor& type);

}  // namespace unipool
