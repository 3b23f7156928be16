#include "data/tokenizer.h"

#include <glog/logging.h>

#include <algorithm>

#include "runtime/utf8.h"

namespace unipool {
namespace {

class ByteEncoder : public TextEncoder {
 public:
  void Encode(absl::string_view text, std::vector<int32_t>* ids) override {
    const size_t before = ids->size();
    ids->resize(before + text.size());
    int32_t* out = ids->data() + before;
    for (size_t i = 0; i < text.size(); ++i) out[i] = static_cast<unsigned char>(text[i]);
  }
};

class ByteTokenizer : public Tokenizer {
 public:
  int vocab() const override { return kBytes + 1; }
  int end_of_document() const override { return kBytes; }
  std::unique_ptr<TextEncoder> NewEncoder() const override {
    return std::make_unique<ByteEncoder>();
  }
  size_t SplitPoint(absl::string_view text, size_t begin) const override {
    constexpr size_t kLongestCharacter = 4;
    size_t end = text.size();
    // A cut inside of a character moves to its first byte; bytes that are no character do not.
    const auto is_inside = [&](size_t at) { return (text[at] & 0xc0) == 0x80; };
    for (size_t bytes = 1; bytes < std::min(text.size(), kLongestCharacter); ++bytes) {
      if (is_inside(text.size() - bytes)) continue;
      if (Utf8CharacterBytes(text.substr(text.size() - bytes)) == 0) end -= bytes;
      break;
    }
    return end > begin ? end : 0;
  }

  std::string Decode(absl::Span<const int32_t> ids) const override {
    std::string text;
    text.reserve(ids.size());
    for (const int32_t id : ids) {
      if (NumBytes(id) == 1) text.push_back(static_cast<char>(id));
    }
    return text;
  }

  int NumBytes(int32_t id) const override {
    CHECK(id >= 0 && id < vocab()) << id;
    return id < kBytes ? 1 : 0;
  }

 private:
  static constexpr int kBytes = 256;
};

}  // namespace

void Tokenizer::Encode(absl::string_view text, std::vector<int32_t>* ids) const {
  NewEncoder()->Encode(text, ids);
}

std::unique_ptr<Tokenizer> CreateByteTokenizer() { return std::make_unique<ByteTokenizer>(); }

}  // namespace unipool
