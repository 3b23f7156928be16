// Reads the text of a file or a pipe and decompresses it on the way: gzip with zlib, zstd with
// libzstd, anything else unchanged. The first bytes name the compression, whatever the name is.
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
  // The compression that the extension of `path` names in any case: "gz" for .gz and .gzip, "zst"
  // for .zst and .zstd, else "".
  static std::string CompressionOf(const std::string& path);
  // Errors name the path. A file whose name but not its content is compressed gives an error when
  // it is read.
  static absl::StatusOr<std::unique_ptr<TextSource>> Open(const std::string& path);

  virtual ~TextSource() = default;
  // Writes up to `bytes` bytes of text to `to` and returns their number, which is 0 only at the
  // end. DATA_LOSS with the file and the byte if compressed data are damaged or truncated. Zeros
  // after compressed data, as tapes and block devices leave them, are passed over.
  virtual absl::StatusOr<size_t> Read(char* to, size_t bytes) = 0;
  virtual int64_t file_bytes() const = 0;  // bytes of the file read so far, before decompression
};

}  // namespace unipool
