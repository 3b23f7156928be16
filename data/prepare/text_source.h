// The text of a file, unpacked on the way: .gz by zlib, .zst by libzstd, all others as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace unipool {

class TextSource {
 public:
  // What the ending of the name says: "gz", "zst" or nothing.
  static std::string PackingOf(const std::string& path);
  static absl::StatusOr<std::unique_ptr<TextSource>> Open(const std::string& path);

  virtual ~TextSource() = default;
  // Up to `bytes` of the text, 0 only at its end. DATA_LOSS where packed data is damaged or cut
  // short, with the file and the byte.
  virtual absl::StatusOr<size_t> Read(char* to, size_t bytes) = 0;
  virtual int64_t file_bytes() const = 0;  // read so far, packed where the file is
};

}  // namespace unipool
