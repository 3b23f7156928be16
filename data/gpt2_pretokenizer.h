// Splits text into the pieces that GPT-2 tokenizes separately, as its regular expression does:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// PCRE2 provides the classes of code points; the matching is written by hand for speed. A byte that
// is not part of valid UTF-8 counts as one character that is neither letter, number nor space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace unipool {

// Immutable; any thread may use it.
class Gpt2Pretokenizer {
 public:
  // INTERNAL if the system's PCRE2 is built without Unicode support.
  static absl::StatusOr<std::unique_ptr<Gpt2Pretokenizer>> Create();

  // The end (exclusive byte offset) of the piece that starts at `begin` < text.size().
  size_t PieceEnd(absl::string_view text, size_t begin) const;

  // The last position p > begin between two characters of `text` where a piece ends and another one
  // begins, whatever precedes and follows the text; 0 if there is none. The pieces of a text are
  // those of its part before p and those of the rest.
  size_t LastBoundary(absl::string_view text, size_t begin) const;

 private:
  enum Kind : uint8_t { kOther, kLetter, kNumber, kSpace };
  struct Character {
    Kind kind;
    uint8_t bytes;
  };

  Gpt2Pretokenizer();
  absl::Status MarkKinds();
  Character At(absl::string_view text, size_t at) const;
  Character WideAt(absl::string_view text, size_t at) const;
  // The kind of the character that ends at `end`; nullopt if `end` is inside of a character.
  std::optional<Kind> KindBefore(absl::string_view text, size_t end) const;
  size_t RunEnd(absl::string_view text, size_t at, Kind kind) const;
  size_t SpacesEnd(absl::string_view text, size_t begin) const;

  std::vector<Kind> kinds_;  // [0x110000], of each code point
};

}  // namespace unipool
