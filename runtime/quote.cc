#include "runtime/quote.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "runtime/utf8.h"

namespace unipool {
namespace {

// The control characters U+0080 to U+009F are two bytes in UTF-8.
bool IsWideControl(absl::string_view character) {
  return character[0] == '\xc2' && static_cast<unsigned char>(character[1]) < 0xa0;
}

// The first character of the text as it is shown; sets its number of bytes in the text.
std::string ShownCharacter(absl::string_view text, size_t* bytes) {
  *bytes = Utf8CharacterBytes(text);
  if (*bytes > 1 && !IsWideControl(text)) return std::string(text.substr(0, *bytes));
  *bytes = 1;
  switch (text[0]) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      break;
  }
  if (absl::ascii_isprint(static_cast<unsigned char>(text[0]))) return {text[0]};
  return absl::StrFormat("\\x%02x", static_cast<unsigned char>(text[0]));
}

}  // namespace

std::string QuoteInput(absl::string_view text) {
  std::string shown;
  for (size_t at = 0; at < text.size();) {
    size_t bytes = 0;
    std::string character = ShownCharacter(text.substr(at), &bytes);
    if (character == "\"" || character == "\\") character = absl::StrCat("\\", character);
    if (shown.size() + character.size() > kMaxQuotedBytes) {
      return absl::StrCat("\"", shown, "...\" (", text.size(), " bytes)");
    }
    shown += character;
    at += bytes;
  }
  return absl::StrCat("\"", shown, "\"");
}

std::string CutInput(absl::string_view text) {
  const bool is_plain =
      text.size() <= kMaxQuotedBytes && std::all_of(text.begin(), text.end(), [](char c) {
        return absl::ascii_isprint(static_cast<unsigned char>(c));
      });
  return is_plain ? std::string(text) : QuoteInput(text);
}

std::string OneLine(absl::string_view message) {
  std::string line;
  for (size_t at = 0, bytes = 0; at < message.size(); at += bytes) {
    line += ShownCharacter(message.substr(at), &bytes);
  }
  return line;
}

}  // namespace unipool
