// How messages show text that comes from a file.
#pragma once

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace unipool {

// At most this many bytes of a text appear in a message, escapes included.
inline constexpr size_t kMaxQuotedBytes = 60;

// The text in double quotes on one line: control characters, quotes, backslashes and bytes that are
// not UTF-8 are escaped as in C. A longer text is cut, with its size: `"abc..." (5000 bytes)`.
std::string QuoteInput(absl::string_view text);

// The text as it is if it has at most kMaxQuotedBytes bytes, all of them printable ASCII; else
// QuoteInput(text). For names and numbers that a message shows without quotes.
std::string CutInput(absl::string_view text);

// A message, which may contain the names of files, as one line of UTF-8: control characters and
// bytes that are not UTF-8 are escaped as above.
std::string OneLine(absl::string_view message);

}  // namespace unipool
