// Incremental XXH3-128 hash, in hexadecimal as `xxhsum -H128` prints it. Checkpoints use it to
// detect damaged files.
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
  std::string Hex() const;  // hash of all bytes added since the last Reset
  void Reset();

  static std::string Of(absl::string_view bytes);

 private:
  struct State;
  const std::unique_ptr<State> state_;
};

}  // namespace unipool
