#include "data/gpt2_pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 32
#include <pcre2.h>

#include <algorithm>
#include <numeric>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr uint32_t kCodePoints = 0x110000;
constexpr uint32_t kFirstSurrogate = 0xD800, kLastSurrogate = 0xDFFF;

// White space is listed because it is the same in every version of Unicode, whereas PCRE2's \s also
// contains U+180E, which is not white space in Unicode or in the original tokenizer.
constexpr char kKinds[] =
    "(\\p{L}+)|(\\p{N}+)|([\\x09-\\x0D\\x20\\x85\\xA0\\x{1680}\\x{2000}-\\x{200A}\\x{2028}"
    "\\x{2029}\\x{202F}\\x{205F}\\x{3000}]+)";

using Code = std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)>;
using MatchData = std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)>;

absl::StatusOr<Code> CompileKinds() {
  const std::vector<PCRE2_UCHAR> pattern(std::begin(kKinds), std::end(kKinds) - 1);
  int error = 0;
  PCRE2_SIZE at = 0;
  Code code(pcre2_compile(pattern.data(), pattern.size(), PCRE2_UTF, &error, &at, nullptr),
            pcre2_code_free);
  if (code != nullptr) return code;
  return absl::InternalError(absl::StrCat("PCRE2 rejected \\p{L} (error ", error,
                                          "); install a PCRE2 that is built with Unicode support"));
}

// Bytes of the contraction ('s, 're, ...) at the start of the text; 0 if there is none.
size_t ContractionBytes(absl::string_view text) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const char first = text[1];
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (text.size() < 3) return 0;
  const char second = text[2];
  const bool is_long = (first == 'r' && second == 'e') || (first == 'v' && second == 'e') ||
                       (first == 'l' && second == 'l');
  return is_long ? 3 : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Gpt2Pretokenizer>> Gpt2Pretokenizer::Create() {
  std::unique_ptr<Gpt2Pretokenizer> self(new Gpt2Pretokenizer);
  RETURN_IF_ERROR(self->MarkKinds());
  return self;
}

Gpt2Pretokenizer::Gpt2Pretokenizer() : kinds_(kCodePoints, kOther) {}

absl::Status Gpt2Pretokenizer::MarkKinds() {
  ASSIGN_OR_RETURN(const Code code, CompileKinds());
  const MatchData match(pcre2_match_data_create_from_pattern(code.get(), nullptr),
                        pcre2_match_data_free);
  // Every code point once, in order. Surrogates are not characters; zero takes their places.
  std::vector<PCRE2_UCHAR> all(kCodePoints);
  std::iota(all.begin(), all.end(), 0);
  std::fill(all.begin() + kFirstSurrogate, all.begin() + kLastSurrogate + 1, 0);
  PCRE2_SIZE at = 0;
  int group = 0;
  while ((group = pcre2_match(code.get(), all.data(), all.size(), at, PCRE2_NO_UTF_CHECK,
                              match.get(), nullptr)) > 0) {
    // The number of groups set is one more than that of the alternative that matched.
    constexpr Kind kOfGroup[] = {kLetter, kNumber, kSpace};
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match.get());
    std::fill(kinds_.begin() + ends[0], kinds_.begin() + ends[1], kOfGroup[group - 2]);
    at = ends[1];
  }
  if (group == PCRE2_ERROR_NOMATCH) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("PCRE2 failed to classify the characters (error ", group, ")"));
}

size_t Gpt2Pretokenizer::PieceEnd(absl::string_view text, size_t begin) const {
  if (const size_t bytes = ContractionBytes(text.substr(begin)); bytes > 0) return begin + bytes;
  const Character first = At(text, begin);
  if (first.kind != kSpace) return RunEnd(text, begin + first.bytes, first.kind);
  if (text[begin] == ' ' && begin + 1 < text.size()) {
    const Character second = At(text, begin + 1);
    if (second.kind != kSpace) return RunEnd(text, begin + 1 + second.bytes, second.kind);
  }
  return SpacesEnd(text, begin);
}

size_t Gpt2Pretokenizer::RunEnd(absl::string_view text, size_t at, Kind kind) const {
  while (at < text.size()) {
    const Character character = At(text, at);
    if (character.kind != kind) break;
    at += character.bytes;
  }
  return at;
}

// The last of several spaces belongs to the next piece.
size_t Gpt2Pretokenizer::SpacesEnd(absl::string_view text, size_t begin) const {
  size_t at = begin, last = begin;
  while (at < text.size()) {
    const Character character = At(text, at);
    if (character.kind != kSpace) break;
    last = at;
    at += character.bytes;
  }
  return at == text.size() || last == begin ? at : last;
}

// A piece always ends where a character that is no space meets one of another kind, except that an
// apostrophe may form a contraction with the letters after it.
size_t Gpt2Pretokenizer::LastBoundary(absl::string_view text, size_t begin) const {
  // A character whose bytes are not all there is not judged.
  constexpr size_t kLongest = 4;
  for (size_t at = text.size() - std::min(text.size(), kLongest); at > begin; --at) {
    const std::optional<Kind> before = KindBefore(text, at);
    if (!before.has_value() || *before == kSpace) continue;
    const Kind after = At(text, at).kind;
    const bool may_contract = text[at - 1] == '\'' && after == kLetter;
    if (after != *before && !may_contract) return at;
  }
  return 0;
}

std::optional<Gpt2Pretokenizer::Kind> Gpt2Pretokenizer::KindBefore(absl::string_view text,
                                                                   size_t end) const {
  constexpr size_t kLongest = 4;
  for (size_t bytes = 1; bytes <= std::min(end, kLongest); ++bytes) {
    const auto byte = static_cast<uint8_t>(text[end - bytes]);
    if ((byte & 0xC0) == 0x80) continue;
    const Character character = At(text, end - bytes);
    if (character.bytes > bytes) return std::nullopt;
    return character.bytes == bytes ? character.kind : kOther;  // bytes without a first one
  }
  return kOther;
}

inline Gpt2Pretokenizer::Character Gpt2Pretokenizer::At(absl::string_view text, size_t at) const {
  const auto byte = static_cast<uint8_t>(text[at]);
  if (byte < 0x80) return {kinds_[byte], 1};
  return WideAt(text, at);
}

Gpt2Pretokenizer::Character Gpt2Pretokenizer::WideAt(absl::string_view text, size_t at) const {
  constexpr Character kInvalid{kOther, 1};
  // The smallest code point of each encoded length; a smaller one is an overlong encoding.
  constexpr uint32_t kMinCode[] = {0, 0, 0x80, 0x800, 0x10000};
  const auto lead = static_cast<uint8_t>(text[at]);
  const uint8_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC2 || lead > 0xF4 || text.size() - at < bytes) return kInvalid;
  uint32_t code = lead & (0x7F >> bytes);
  for (size_t i = at + 1; i < at + bytes; ++i) {
    const auto next = static_cast<uint8_t>(text[i]);
    if ((next & 0xC0) != 0x80) return kInvalid;
    code = code << 6 | (next & 0x3F);
  }
  const bool is_surrogate = code >= kFirstSurrogate && code <= kLastSurrogate;
  if (code < kMinCode[bytes] || code >= kCodePoints || is_surrogate) return kInvalid;
  return {kinds_[code], bytes};
}

}  // namespace unipool
