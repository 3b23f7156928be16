// Reads the text of a file and decompresses it on the way: .gz with zlib, .zst with libzstd, any
// other file unchanged.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace unipool {

// Owns the open file. One thread may use it.
class TextSource {
 public:
  // The compression that the extension of `path` names: "gz", "zst" or "".
  static std::string CompressionOf(const std::string& path);
  // Errors name the path.
  static absl::StatusOr<std::unique_ptr<TextSource>> Open(const std::string& path);

  virtual ~TextSource() = default;
  // Writes up to `bytes` bytes of text to `to` and returns their number, which is 0 only at the
  // end. DATA_LOSS with the file and the byte if compressed data are damaged or truncated.
  virtual absl::StatusOr<size_t> Read(char* to, size_t bytes) = 0;
  virtual int64_t file_bytes() const = 0;  // bytes of the file read so far, before decompression
};

}  // namespace unipool
