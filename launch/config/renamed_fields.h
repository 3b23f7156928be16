// Config fields that were renamed. The message definition keeps the old field as
// `[deprecated = true, (renamed_to) = "new_name"]`, so that config files, `--set` assignments and
// the manifests of old checkpoints still load under the old name.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launch/config/config_fields.h"

namespace unipool {

// Moves the value of every renamed field of `message`, also inside messages and lists, to the field
// that replaces it, and clears the old field. For each one it moves the entry of `origins` to the
// new path and appends one line to `warnings`, for example
//   configs/x.textproto:7:3: divergence.most_rewinds is now divergence.max_rewinds; please rename
//   it
// Both pointers may be null. INVALID_ARGUMENT if a field is set under both names.
absl::Status MoveRenamedFields(google::protobuf::Message* message, FieldOrigins* origins,
                               std::vector<std::string>* warnings);

}  // namespace unipool
