#include "runtime/content_hash.h"

// Compiled inline for the processor of this build: twice as fast as the shared library, which is
// built for a generic one.
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "absl/strings/escaping.h"

namespace unipool {

struct ContentHash::State {
  XXH3_state_t hash;
};

ContentHash::ContentHash() : state_(std::make_unique<State>()) { Reset(); }

ContentHash::~ContentHash() = default;

void ContentHash::Add(const void* data, int64_t bytes) {
  XXH3_128bits_update(&state_->hash, data, static_cast<size_t>(bytes));
}

std::string ContentHash::Hex() const {
  XXH128_canonical_t hash;
  XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(&state_->hash));
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(hash.digest), sizeof(hash.digest)));
}

void ContentHash::Reset() { XXH3_128bits_reset(&state_->hash); }

std::string ContentHash::Of(absl::string_view bytes) {
  ContentHash hash;
  hash.Add(bytes.data(), static_cast<int64_t>(bytes.size()));
  return hash.Hex();
}

}  // namespace unipool
