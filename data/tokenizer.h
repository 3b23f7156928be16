// Text to token ids and back.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace unipool {

// Turns texts into ids, remembering what it has seen; for one thread. Borrows its tokenizer.
class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  // Appends the ids of `text`, without an end of document.
  virtual void Encode(absl::string_view text, std::vector<int32_t>* ids) = 0;
};

// Immutable: any thread may use it.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int vocab() const = 0;
  virtual int end_of_document() const = 0;
  virtual std::unique_ptr<TextEncoder> NewEncoder() const = 0;
  // The bytes of the ids; special tokens give none. Decoding what was encoded gives the same bytes,
  // whatever they are.
  virtual std::string Decode(absl::Span<const int32_t> ids) const = 0;
  // Bytes of text that a token stands for; 0 for special tokens. Sums of this turn losses into bits
  // per byte.
  virtual int NumBytes(int32_t id) const = 0;

  // One text by a new encoder.
  void Encode(absl::string_view text, std::vector<int32_t>* ids) const;
};

// Ids 0..255 are the bytes, 256 is the end of a document.
std::unique_ptr<Tokenizer> CreateByteTokenizer();

// GPT-2's byte-level BPE from its two files: the ids are those of the original. "<|endoftext|>" is
// the end of a document; where a text spells it, it is text like any other. Files that are damaged,
// or do not belong together, are INVALID_ARGUMENT with the file, the line or byte, and what was
// expected (data/bpe_vocabulary.h).
absl::StatusOr<std::unique_ptr<Tokenizer>> OpenGpt2Tokenizer(const std::string& vocab_file,
                                                             const std::string& merges_file);

}  // namespace unipool
