// Parses the text of a config file, with errors for people.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "launch/config/config_fields.h"

namespace unipool {

// Parses the textproto `text`, the content of `file`, into the empty message `message` and records
// in `origins` where each field was set, as FILE:LINE:COLUMN, counted from 1. An element of a list
// has the path data.source[0]; the list itself has the place of its first element. Former field
// names stay as they are: call MoveRenamedFields next. INVALID_ARGUMENT for the first error, as one
// line `FILE:LINE:COLUMN: FIELD: what was found; what to do`; `message` is then undefined.
absl::Status ParseConfigText(const std::string& text, const std::string& file,
                             google::protobuf::Message* message, FieldOrigins* origins);

}  // namespace unipool
