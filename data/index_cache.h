// Arrays that are worth keeping: computed once, written beside the data, mapped into memory ever
// after, by any number of processes. The name and the head of a file tell what determines its
// bytes, and a hash of them shows damage. Layout: data/README.md.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/mapped_file.h"

namespace unipool {

// The bytes, from a file or in memory; immutable, at an address that is a multiple of 8.
class CachedBytes {
 public:
  explicit CachedBytes(std::vector<uint8_t> bytes) : built_(std::move(bytes)) {}
  // The part of the file from byte `begin` on.
  CachedBytes(MappedFile file, int64_t begin) : file_(std::move(file)), begin_(begin) {}
  CachedBytes(CachedBytes&&) = default;
  CachedBytes& operator=(CachedBytes&&) = default;

  const uint8_t* data() const;
  int64_t bytes() const;
  bool is_mapped() const { return file_.data() != nullptr; }
  // As MappedFile::NoteRead.
  void NoteRead() const { file_.NoteRead(); }

 private:
  MappedFile file_;
  int64_t begin_ = 0;
  std::vector<uint8_t> built_;
};

struct CacheEntry {
  std::string prefix;  // of the file PREFIX-HASH.order
  std::string folder;  // instead of the prefix's; "" = that
  std::string key;     // all that determines the bytes, and their version
};

std::string CachePath(const CacheEntry& entry);

// The bytes of the entry. Where its file is missing or damaged (a warning), `build` makes them and
// they are written aside and renamed; of many processes one builds while the others wait for its
// lock. Where nothing can be written the bytes stay in memory, with a warning. Errors are build's.
using BuildBytes = std::function<absl::StatusOr<std::vector<uint8_t>>()>;
absl::StatusOr<CachedBytes> LoadOrBuild(const CacheEntry& entry, const BuildBytes& build);

}  // namespace unipool
