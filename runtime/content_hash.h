// The XXH3-128 of bytes that come in pieces, in hexadecimal as `xxhsum -H128` prints it: what tells
// a damaged file from a whole one.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"

namespace unipool {

class ContentHash {
 public:
  static constexpr int kHexDigits = 32;

  ContentHash();
  ~ContentHash();
  ContentHash(const ContentHash&) = delete;
  ContentHash& operator=(const ContentHash&) = delete;

  void Add(const void* data, int64_t bytes);
  std::string Hex() const;  // of all bytes since the last Reset
  void Reset();

  static std::string Of(absl::string_view bytes);

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace unipool
