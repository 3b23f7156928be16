// What configs/run.proto says of each field, for users without the source tree.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace unipool {

// For a field, such as "pool.pool_loss": its type, default, meaning, unit and range, and those of
// the values of an enum. For a message, such as "pool", or "" for the whole config: one line for
// each field. INVALID_ARGUMENT, with the nearest name, if there is no such field.
absl::StatusOr<std::string> FieldHelp(const std::string& path);

// The sizes of StarterConfig.
std::string StarterSizes();
// A config to copy and edit, with the meaning of each field above it; `size` is "small", for one
// machine without a GPU, or that of a model of the paper, such as "182m". INVALID_ARGUMENT for
// another size.
absl::StatusOr<std::string> StarterConfig(const std::string& size);

}  // namespace unipool
