#include "runtime/utf8.h"

#include <cstdint>
#include <cstring>

namespace unipool {
namespace {

// Properties of a first byte: bytes of the character (0: not a first byte), and range of the
// second.
struct Lead {
  size_t bytes;
  unsigned char min, max;
};

Lead LeadOf(unsigned char byte) {
  constexpr unsigned char kMin = 0x80, kMax = 0xbf;
  if (byte < 0x80) return {1, kMin, kMax};
  if (byte < 0xc2 || byte > 0xf4) return {0, kMin, kMax};
  if (byte < 0xe0) return {2, kMin, kMax};
  // The ranges exclude overlong encodings, surrogates and codes above U+10FFFF.
  if (byte == 0xe0) return {3, 0xa0, kMax};
  if (byte == 0xed) return {3, kMin, 0x9f};
  if (byte < 0xf0) return {3, kMin, kMax};
  if (byte == 0xf0) return {4, 0x90, kMax};
  if (byte == 0xf4) return {4, kMin, 0x8f};
  return {4, kMin, kMax};
}

bool AreEightAscii(const char* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return (word & 0x8080808080808080) == 0;
}

}  // namespace

size_t Utf8CharacterBytes(absl::string_view text) {
  const auto byte = [text](size_t i) { return static_cast<unsigned char>(text[i]); };
  const Lead lead = LeadOf(byte(0));
  if (lead.bytes > text.size()) return 0;
  if (lead.bytes > 1 && (byte(1) < lead.min || byte(1) > lead.max)) return 0;
  for (size_t i = 2; i < lead.bytes; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  return lead.bytes;
}

size_t ValidUtf8Bytes(absl::string_view text) {
  size_t at = 0;
  while (at < text.size()) {
    const bool is_ascii = text.size() - at >= 8 && AreEightAscii(text.data() + at);
    const size_t bytes = is_ascii ? 8 : Utf8CharacterBytes(text.substr(at));
    if (bytes == 0) break;
    at += bytes;
  }
  return at;
}

}  // namespace unipool
