#include "launch/config/renamed_fields.h"

#include <glog/logging.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/message.h>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "runtime/status.h"

namespace unipool {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Copies the value of `from` to `to`, which is another field of the same type.
void CopyValue(const FieldDescriptor& from, const FieldDescriptor& to, Message* message) {
  CHECK(from.cpp_type() == to.cpp_type() && !from.is_repeated() && !to.is_repeated())
      << from.full_name() << " and " << to.full_name() << " have different types";
  const auto& access = *message->GetReflection();
  switch (from.cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return access.SetInt32(message, &to, access.GetInt32(*message, &from));
    case FieldDescriptor::CPPTYPE_INT64:
      return access.SetInt64(message, &to, access.GetInt64(*message, &from));
    case FieldDescriptor::CPPTYPE_UINT64:
      return access.SetUInt64(message, &to, access.GetUInt64(*message, &from));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return access.SetDouble(message, &to, access.GetDouble(*message, &from));
    case FieldDescriptor::CPPTYPE_FLOAT:
      return access.SetFloat(message, &to, access.GetFloat(*message, &from));
    case FieldDescriptor::CPPTYPE_BOOL:
      return access.SetBool(message, &to, access.GetBool(*message, &from));
    case FieldDescriptor::CPPTYPE_ENUM:
      return access.SetEnumValue(message, &to, access.GetEnumValue(*message, &from));
    case FieldDescriptor::CPPTYPE_STRING:
      return access.SetString(message, &to, access.GetString(*message, &from));
    default:
      LOG(FATAL) << from.full_name() << " has a type that cannot be renamed";
  }
}

class Mover {
 public:
  Mover(FieldOrigins* origins, std::vector<std::string>* warnings)
      : origins_(origins), warnings_(warnings) {}

  // `prefix` is the path of `message` with a final dot, or "".
  absl::Status MoveIn(Message* message, const std::string& prefix) {
    const auto& access = *message->GetReflection();
    std::vector<const FieldDescriptor*> fields;
    access.ListFields(*message, &fields);
    for (const FieldDescriptor* field : fields) {
      const std::string path = prefix + field->name();
      if (field->options().HasExtension(config::renamed_to)) {
        RETURN_IF_ERROR(Move(*field, prefix, message));
      } else if (field->message_type() == nullptr) {
        continue;
      } else if (!field->is_repeated()) {
        RETURN_IF_ERROR(MoveIn(access.MutableMessage(message, field), path + "."));
      } else {
        for (int i = 0; i < access.FieldSize(*message, field); ++i) {
          RETURN_IF_ERROR(MoveIn(access.MutableRepeatedMessage(message, field, i),
                                 absl::StrCat(path, "[", i, "].")));
        }
      }
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Move(const FieldDescriptor& old_field, const std::string& prefix, Message* message) {
    const std::string& name = old_field.options().GetExtension(config::renamed_to);
    const FieldDescriptor* field = message->GetDescriptor()->FindFieldByName(name);
    CHECK(field != nullptr) << old_field.full_name() << " names no field " << name;
    const std::string old_path = prefix + old_field.name(), path = prefix + name;
    const std::string origin = Origin(old_path);
    if (message->GetReflection()->HasField(*message, field)) {
      return absl::InvalidArgumentError(absl::StrCat(
          origin, old_path, ": found both this former name and ", path, "; remove ", old_path));
    }
    CopyValue(old_field, *field, message);
    message->GetReflection()->ClearField(message, &old_field);
    if (origins_ != nullptr && origins_->count(old_path) > 0) {
      (*origins_)[path] = origins_->at(old_path);
      origins_->erase(old_path);
    }
    if (warnings_ != nullptr) {
      warnings_->push_back(absl::StrCat(origin, old_path, " is now ", path, "; please rename it"));
    }
    return absl::OkStatus();
  }

  // Where the field was set, with a final ": "; "" if that is not known.
  std::string Origin(const std::string& path) const {
    if (origins_ == nullptr || origins_->count(path) == 0) return "";
    return absl::StrCat(origins_->at(path), ": ");
  }

  FieldOrigins* const origins_;
  std::vector<std::string>* const warnings_;
};

}  // namespace

absl::Status MoveRenamedFields(Message* message, FieldOrigins* origins,
                               std::vector<std::string>* warnings) {
  return Mover(origins, warnings).MoveIn(message, "");
}

}  // namespace unipool
