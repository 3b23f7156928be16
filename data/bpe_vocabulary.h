// The two files of a GPT-2 tokenizer. vocab.json: {"token": id, ...}; merges.txt: a line
// "#version: ...", then a pair of tokens a line, the first to be merged first. Both write the 256
// bytes as printable characters: the printable ones of Latin-1 as themselves, the others from
// U+0100 on.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace unipool {

// Immutable: any thread may use it.
class BpeVocabulary {
 public:
  struct Merge {
    int32_t rank;  // the lowest goes first
    int32_t id;    // of the two together
  };
  static constexpr int32_t kNoMerge = INT32_MAX;

  // Checks that the ids are 0 to size - 1, each once, that all bytes and "<|endoftext|>" are there,
  // and that every other token is made by a merge of two others, so that a file that was cut short
  // is told from a whole one. INVALID_ARGUMENT with the file, the line or byte, what was found and
  // what was expected.
  static absl::StatusOr<std::unique_ptr<BpeVocabulary>> Read(const std::string& vocab_file,
                                                             const std::string& merges_file);

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t end_of_text() const { return end_of_text_; }
  int32_t OfByte(uint8_t byte) const { return of_byte_[byte]; }
  // The bytes of a token; the end of a text has none.
  const std::string& Bytes(int32_t id) const { return tokens_[id]; }
  // The rank is kNoMerge where the pair stays two.
  Merge Find(int32_t left, int32_t right) const;

 private:
  using Ids = absl::flat_hash_map<std::string, int32_t>;  // of tokens as the files write them

  BpeVocabulary() = default;
  absl::Status PlaceTokens(const std::string& file, const Ids& ids);
  absl::Status ReadMerges(const std::string& file, const Ids& ids);
  absl::Status AddMerge(absl::string_view line, const Ids& ids);
  absl::Status CheckAllAreMade(const std::string& vocab_file, const std::string& merges_file) const;

  std::vector<std::string> tokens_;
  std::vector<int32_t> of_byte_;
  int32_t end_of_text_ = -1;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // by left << 32 | right
};

}  // namespace unipool
