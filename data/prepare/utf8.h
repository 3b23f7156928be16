// Checks that bytes are valid UTF-8.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace unipool {

// Number of bytes before the first invalid UTF-8 character (RFC 3629); text.size() if there is
// none.
size_t ValidUtf8Bytes(absl::string_view text);

}  // namespace unipool
