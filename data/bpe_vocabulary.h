// The vocabulary and the merge rules of a GPT-2 tokenizer, read from its two files:
//   vocab.json  {"token": id, ...}
//   merges.txt  an optional line "#version: ...", then one pair of tokens per line, separated by a
//               space; earlier lines are merged first
// Both files write each of the 256 bytes as one printable character: the printable characters of
// Latin-1 stand for themselves; the other bytes are written as U+0100, U+0101, ... in ascending
// order. A byte order mark at the start of a file, carriage returns at the end of lines, and blank
// lines at the end of merges.txt are passed over.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace unipool {

// Immutable; any thread may use it.
class BpeVocabulary {
 public:
  struct Merge {
    int32_t rank;  // pairs of lower rank are merged first
    int32_t id;    // of the merged token
  };
  static constexpr int32_t kNoMerge = INT32_MAX;
  static constexpr int64_t kMaxFileBytes = int64_t{256} << 20;  // of each of the two files

  // Checks that the ids are 0 to size - 1, each used once, that all bytes and "<|endoftext|>" are
  // tokens, and that every other token is the result of a merge; the last check detects truncated
  // files. INVALID_ARGUMENT names the file, the line or byte, what was found and what was expected.
  static absl::StatusOr<std::unique_ptr<BpeVocabulary>> Read(const std::string& vocab_file,
                                                             const std::string& merges_file);

  int32_t size() const { return static_cast<int32_t>(tokens_.size()); }
  int32_t end_of_text() const { return end_of_text_; }
  int32_t OfByte(uint8_t byte) const { return of_byte_[byte]; }
  // The bytes of a token, 0 <= id < size(); "<|endoftext|>" has none.
  const std::string& Bytes(int32_t id) const { return tokens_[id]; }
  // The merge of two adjacent tokens; its rank is kNoMerge if they do not merge.
  Merge Find(int32_t left, int32_t right) const;

 private:
  using Ids = absl::flat_hash_map<std::string, int32_t>;  // keyed by tokens as written in the files

  BpeVocabulary() = default;
  absl::Status IndexTokens(const std::string& file, const Ids& ids);
  absl::Status ReadMerges(const std::string& file, const Ids& ids);
  absl::Status AddMerge(absl::string_view line, const Ids& ids);
  absl::Status CheckAllReachable(const std::string& vocab_file,
                                 const std::string& merges_file) const;

  std::vector<std::string> tokens_;
  std::vector<int32_t> of_byte_;
  int32_t end_of_text_ = -1;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // keyed by left << 32 | right
};

}  // namespace unipool
