// Whether bytes are text.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace unipool {

// Bytes before the first character that is not valid UTF-8 (RFC 3629): all of them where none is.
size_t ValidUtf8Bytes(absl::string_view text);

}  // namespace unipool
