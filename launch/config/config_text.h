// Textproto -> message, with errors of one line that name file, line, column, field and what was
// expected there.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "launch/config/config_fields.h"

namespace unipool {

// Parses `text`, the content of `file`, into `message` and notes where each field was given.
// INVALID_ARGUMENT on the first error.
absl::Status ParseConfigText(const std::string& text, const std::string& file,
                             google::protobuf::Message* message, FieldOrigins* origins);

}  // namespace unipool
