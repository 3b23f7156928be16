// A cache of arrays that are computed once, stored in a file beside the data, and then mapped into
// memory by any number of processes. A key determines the bytes; the file's name contains a hash of
// the key, its header the key and a hash of the bytes to detect damage. Layout:
// data/README.md#cache.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/mapped_file.h"

namespace unipool {

// Bytes of a mapped file or of memory, which this object owns. Immutable; the address is a multiple
// of 8.
class CachedBytes {
 public:
  explicit CachedBytes(std::vector<uint8_t> bytes) : built_(std::move(bytes)) {}
  // The bytes of the file from byte `begin` on.
  CachedBytes(MappedFile file, int64_t begin) : file_(std::move(file)), begin_(begin) {}
  CachedBytes(CachedBytes&&) = default;
  CachedBytes& operator=(CachedBytes&&) = default;

  const uint8_t* data() const;
  int64_t bytes() const;
  bool is_mapped() const { return file_.data() != nullptr; }
  // See MappedFile::CountRead.
  void CountRead() const { file_.CountRead(); }

 private:
  MappedFile file_;
  int64_t begin_ = 0;
  std::vector<uint8_t> built_;
};

struct CacheEntry {
  std::string prefix;  // path of the file PREFIX-HASH.order up to the hash
  std::string folder;  // replaces the folder of `prefix`; "" = keep it
  std::string key;     // readable text of everything that determines the bytes, with a version
};

// The path of the entry's file. HASH is the XXH3-64 of the key in 16 hexadecimal digits.
std::string CachePath(const CacheEntry& entry);

// Returns the bytes of the entry. If its file is missing or damaged (logged as a warning), calls
// `build`, writes the bytes to a temporary file and renames it. Of several processes one builds
// while the others wait for its lock. If the file cannot be written, the bytes stay in memory
// (logged as a warning). The only errors returned are those of `build`.
using BuildBytes = std::function<absl::StatusOr<std::vector<uint8_t>>()>;
absl::StatusOr<CachedBytes> LoadOrBuild(const CacheEntry& entry, const BuildBytes& build);

}  // namespace unipool
