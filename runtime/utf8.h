// Checks that bytes are valid UTF-8, and the mark that may precede them.
#pragma once

#include <cstddef>

#include "absl/strings/string_view.h"

namespace unipool {

// Starts the UTF-8 text of some programs on Windows; not a part of the text.
inline constexpr char kByteOrderMark[] = "\xef\xbb\xbf";

// Number of bytes before the first invalid UTF-8 character (RFC 3629); text.size() if there is
// none.
size_t ValidUtf8Bytes(absl::string_view text);

// Number of bytes of the first character of a text that is not empty; 0 if it is not valid UTF-8.
size_t Utf8CharacterBytes(absl::string_view text);

}  // namespace unipool
