// Cuts text into the pieces that GPT-2 tokenizes one by one, as its regular expression does:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// The classes of code points come from PCRE2; the cutting is by hand, for speed. A byte that is no
// part of valid UTF-8 is a character by itself, neither letter nor number nor space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace unipool {

// Immutable: any thread may use it.
class Gpt2Pretokenizer {
 public:
  // INTERNAL where the system's PCRE2 knows no Unicode.
  static absl::StatusOr<std::unique_ptr<Gpt2Pretokenizer>> Create();

  // Where the piece that starts at `begin` ends; `begin` is below the size of the text.
  size_t PieceEnd(absl::string_view text, size_t begin) const;

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
  size_t RunEnd(absl::string_view text, size_t at, Kind kind) const;
  size_t SpacesEnd(absl::string_view text, size_t begin) const;

  std::vector<Kind> kinds_;  // of each code point
};

}  // namespace unipool
