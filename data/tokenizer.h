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

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  virtual int vocab() const = 0;
  virtual int end_of_document() const = 0;
  // Appends the ids of `text`, without an end of document.
  virtual void Encode(absl::string_view text, std::vector<int32_t>* ids) const = 0;
  // The bytes of the ids; special tokens give none.
  virtual std::string Decode(absl::Span<const int32_t> ids) const = 0;
  // Bytes of text that a token stands for; 0 for special tokens. Sums of this turn losses into bits
  // per byte.
  virtual int NumBytes(int32_t id) const = 0;
};

// Ids 0..255 are the bytes, 256 is the end of a document.
std::unique_ptr<Tokenizer> CreateByteTokenizer();

}  // namespace unipool
