// Named tensors in safetensors files: what checkpoints and exports are made of. A file is written
// once, front to back, and hashed on the way; it is read after every field of its header has been
// checked. Knows no model, and leaves folders and renames to its caller.
//
// Format: u64 header length, little-endian; a JSON header {"__metadata__": {text: text}, name:
// {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ..}, padded with spaces so that
// the data begin at a multiple of 8; the tensors' bytes, one after another without gaps.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "runtime/tensor.h"

namespace unipool {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
};

// A whole file's size and the XXH3-128 of its bytes in hexadecimal, as `xxhsum -H128` prints it.
struct FileDigest {
  int64_t bytes = 0;
  std::string xxh3_128;

  bool operator==(const FileDigest&) const = default;
};

absl::StatusOr<FileDigest> DigestFile(const std::string& path);

class ContentHash;

// Writes one file; for one thread. A writer that is destroyed before Finish succeeded removes the
// file. Errors name the path and the byte; after one, every call returns it again.
class TensorFileWriter {
 public:
  // Replaces the file at `path`. Names must be distinct and, like the metadata, UTF-8.
  static absl::StatusOr<std::unique_ptr<TensorFileWriter>> Create(
      const std::string& path, std::vector<TensorSpec> specs,
      const std::map<std::string, std::string>& metadata);
  ~TensorFileWriter();
  TensorFileWriter(const TensorFileWriter&) = delete;
  TensorFileWriter& operator=(const TensorFileWriter&) = delete;

  // Tensors come in the order of the specs, with their names, types and shapes.
  absl::Status Write(const std::string& name, const Tensor& tensor);
  // After the last tensor: brings the bytes to the disk and gives their digest.
  absl::StatusOr<FileDigest> Finish();
  // XXH3-128 of the bytes before the first tensor, and of each tensor so far, in the specs' order:
  // together they cover the file, and tell which part of it is damaged.
  const std::string& header_hash() const { return header_hash_; }
  const std::vector<std::string>& tensor_hashes() const { return tensor_hashes_; }

 private:
  TensorFileWriter(const std::string& path, std::vector<TensorSpec> specs, int file);
  absl::Status Append(const void* data, int64_t bytes);
  void StartWriteback();

  const std::string path_;
  const std::vector<TensorSpec> specs_;
  int file_;  // -1 once finished
  size_t next_ = 0;
  int64_t written_ = 0;
  int64_t writeback_ = 0;  // bytes at the front that the disk was told to begin with
  std::unique_ptr<ContentHash> hash_;
  std::unique_ptr<ContentHash> part_hash_;  // of the header, then of each tensor
  std::string header_hash_;
  std::vector<std::string> tensor_hashes_;
  absl::Status status_;
};

// Where a tensor lies in a file.
struct TensorInfo {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // first byte, counted from the start of the file
  int64_t bytes = 0;
};

// A file open for reading, by any number of threads. A damaged file does not open: the error is one
// line with the path, tensor, byte and what was expected.
class TensorFile {
 public:
  static absl::StatusOr<std::unique_ptr<TensorFile>> Open(const std::string& path);
  ~TensorFile();
  TensorFile(const TensorFile&) = delete;
  TensorFile& operator=(const TensorFile&) = delete;

  // In the order of their bytes.
  const std::vector<std::string>& names() const { return names_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  bool Contains(const std::string& name) const { return tensors_.count(name) > 0; }
  absl::StatusOr<TensorInfo> Info(const std::string& name) const;
  // The bytes before the first tensor; valid while this lives.
  absl::string_view header() const { return header_; }
  // Copies `bytes` bytes of the tensor, from its byte `begin` on, to `to`. A disk that fails, or a
  // file that was cut since, is told with the tensor and the byte.
  absl::Status ReadBytes(const std::string& name, int64_t begin, int64_t bytes, void* to) const;
  // Copies the tensor to `out`, whose type and shape must be the file's.
  absl::Status Read(const std::string& name, const Tensor& out) const;

 private:
  TensorFile(const std::string& path, int file);

  const std::string path_;
  const int file_;
  std::string header_;
  std::vector<std::string> names_;
  std::map<std::string, TensorInfo> tensors_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace unipool
