#include "runtime/content_hash.h"

#include <glog/logging.h>
#include <xxhash.h>

#include "absl/strings/escaping.h"

namespace unipool {

ContentHash::ContentHash() : state_(XXH3_createState()) {
  CHECK(state_ != nullptr);
  Reset();
}

ContentHash::~ContentHash() { XXH3_freeState(state_); }

void ContentHash::Add(const void* data, int64_t bytes) {
  XXH3_128bits_update(state_, data, static_cast<size_t>(bytes));
}

std::string ContentHash::Hex() const {
  XXH128_canonical_t hash;
  XXH128_canonicalFromHash(&hash, XXH3_128bits_digest(state_));
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(hash.digest), sizeof(hash.digest)));
}

void ContentHash::Reset() { XXH3_128bits_reset(state_); }

std::string ContentHash::Of(absl::string_view bytes) {
  ContentHash hash;
  hash.Add(bytes.data(), static_cast<int64_t>(bytes.size()));
  return hash.Hex();
}

}  // namespace unipool
