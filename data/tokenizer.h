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

// Converts texts to ids and caches what it has seen. For one thread. The tokenizer that created it
// must outlive it.
class TextEncoder {
 public:
  virtual ~TextEncoder() = default;
  // Appends the ids of `text` to `ids`, without an end-of-document id.
  virtual void Encode(absl::string_view text, std::vector<int32_t>* ids) = 0;
};

// Immutable; any thread may use it. An id outside [0, vocab()) is a CHECK failure.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int vocab() const = 0;
  virtual int end_of_document() const = 0;
  virtual std::unique_ptr<TextEncoder> NewEncoder() const = 0;
  // A position p > begin in the text, not inside of a character, at which it can be split: the ids
  // of the text and all that follows are those of the part before p, then those of the rest. Near
  // the end of the text if possible; 0 if none was found.
  virtual size_t SplitPoint(absl::string_view text, size_t begin) const = 0;
  // The bytes of the ids; special tokens have none. Decode(Encode(text)) == text for any bytes.
  virtual std::string Decode(absl::Span<const int32_t> ids) const = 0;
  // Bytes of text that a token stands for; 0 for special tokens. Used to convert losses to bits per
  // byte.
  virtual int NumBytes(int32_t id) const = 0;

  // Encodes one text with a new encoder.
  void Encode(absl::string_view text, std::vector<int32_t>* ids) const;
};

// Ids 0..255 are the bytes, 256 is the end of a document.
std::unique_ptr<Tokenizer> CreateByteTokenizer();

// GPT-2's byte-level BPE, read from its two files; ids equal those of the original implementation.
// "<|endoftext|>" is the end of a document; the same characters within a text are encoded as
// ordinary text. INVALID_ARGUMENT for damaged files, or files that do not belong together, names
// the file, the line or byte, and what was expected (data/bpe_vocabulary.h).
absl::StatusOr<std::unique_ptr<Tokenizer>> OpenGpt2Tokenizer(const std::string& vocab_file,
                                                             const std::string& merges_file);

}  // namespace unipool
