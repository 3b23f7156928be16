#include "runtime/json_numbers.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>
#include <system_error>

#include "absl/strings/ascii.h"
#include "absl/strings/charconv.h"
#include "absl/strings/match.h"

namespace unipool {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// A number without an exponent is finite if it has at most this many characters.
constexpr size_t kAlwaysFiniteBytes = 308;

bool IsTokenCharacter(char c) {
  return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '+' || c == '-' || c == '.';
}

// The end of the string whose opening quote is at `begin`; the end of the text if it is not closed.
size_t StringEnd(absl::string_view text, size_t begin) {
  for (size_t at = begin + 1; at < text.size(); ++at) {
    const void* quote = std::memchr(text.data() + at, '"', text.size() - at);
    if (quote == nullptr) break;
    at = static_cast<size_t>(static_cast<const char*>(quote) - text.data());
    size_t escapes = 0;
    while (text[at - 1 - escapes] == '\\') ++escapes;
    if (escapes % 2 == 0) return at + 1;
  }
  return text.size();
}

// Removes the decimal digits at the front and returns whether there were any.
bool ConsumeDigits(absl::string_view* text) {
  const size_t digits = std::min(text->find_first_not_of("0123456789"), text->size());
  text->remove_prefix(digits);
  return digits > 0;
}

// Whether the token is a number of the JSON grammar.
bool IsNumber(absl::string_view token) {
  if (absl::StartsWith(token, "-")) token.remove_prefix(1);
  const bool has_zero = absl::StartsWith(token, "0");
  if (has_zero) token.remove_prefix(1);
  if (!has_zero && !ConsumeDigits(&token)) return false;
  if (absl::StartsWith(token, ".")) {
    token.remove_prefix(1);
    if (!ConsumeDigits(&token)) return false;
  }
  if (token.empty()) return true;
  if (token[0] != 'e' && token[0] != 'E') return false;
  token.remove_prefix(1);
  if (!token.empty() && (token[0] == '+' || token[0] == '-')) token.remove_prefix(1);
  return ConsumeDigits(&token) && token.empty();
}

// The value of a token that is a special number.
std::optional<double> SpecialValue(absl::string_view token) {
  if (token == "NaN") return std::numeric_limits<double>::quiet_NaN();
  if (token == "Infinity") return kInfinity;
  if (token == "-Infinity") return -kInfinity;
  const bool may_be_large =
      token.size() > kAlwaysFiniteBytes || token.find_first_of("eE") != absl::string_view::npos;
  if (!may_be_large || !IsNumber(token)) return std::nullopt;
  double value = 0;
  const auto result = absl::from_chars(token.data(), token.data() + token.size(), value);
  // A number that is too small for a double is out of range too, and becomes about 0.
  if (result.ec != std::errc::result_out_of_range || std::abs(value) < 1) return std::nullopt;
  return token[0] == '-' ? -kInfinity : kInfinity;
}

// A zero of that many bytes, at least 3, or 4 if there is a sign.
std::string Zero(bool is_negative, size_t bytes) {
  std::string zero = is_negative ? "-0." : "0.";
  zero.resize(bytes, '0');
  return zero;
}

}  // namespace

ReplacedNumbers ReplaceSpecialNumbers(absl::string_view text) {
  ReplacedNumbers replaced;
  int64_t number_id = 0;
  for (size_t at = 0; at < text.size();) {
    if (text[at] == '"') {
      at = StringEnd(text, at);
      continue;
    }
    const size_t begin = at;
    while (at < text.size() && IsTokenCharacter(text[at])) ++at;
    if (at == begin) {
      ++at;
      continue;
    }
    const absl::string_view token = text.substr(begin, at - begin);
    const std::optional<double> value = SpecialValue(token);
    if (value.has_value()) {
      if (replaced.numbers.empty()) replaced.text = std::string(text);
      replaced.text.replace(begin, token.size(), Zero(token[0] == '-', token.size()));
      replaced.numbers.push_back({number_id, *value});
    }
    const bool is_word = absl::ascii_islower(static_cast<unsigned char>(token[0]));
    if (!is_word) ++number_id;
  }
  return replaced;
}

}  // namespace unipool
