// Reads and writes named tensors in safetensors files, the format of checkpoints and exports. A
// file is written once, front to back, and hashed while it is written. A reader checks every field
// of the header before it returns data. Folders and renames are the caller's task.
//
// Format: u64 header length, little-endian; a JSON header {"__metadata__": {text: text}, name:
// {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}, ..}, padded with spaces so that
// the data begin at a multiple of 8; the tensors' bytes, contiguous and without gaps.
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

// Size of a file and the XXH3-128 of its bytes in hexadecimal, as `xxhsum -H128` prints it.
struct FileDigest {
  int64_t bytes = 0;
  std::string xxh3_128;

  bool operator==(const FileDigest&) const = default;
};

absl::StatusOr<FileDigest> DigestFile(const std::string& path);

class ContentHash;

// Writes one file; used by one thread. If the writer is destroyed before Finish has succeeded, it
// removes the file. Errors name the path and the byte; after an error every call returns it again.
class TensorFileWriter {
 public:
  // Replaces the file at `path`. Names must be distinct. Names and metadata must be UTF-8.
  static absl::StatusOr<std::unique_ptr<TensorFileWriter>> Create(
      const std::string& path, std::vector<TensorSpec> specs,
      const std::map<std::string, std::string>& metadata);
  ~TensorFileWriter();
  TensorFileWriter(const TensorFileWriter&) = delete;
  TensorFileWriter& operator=(const TensorFileWriter&) = delete;

  // Tensors must be written in the order of the specs, with their names, types and shapes.
  absl::Status Write(const std::string& name, const Tensor& tensor);
  // Call after the last tensor: syncs the file to disk and returns its digest.
  absl::StatusOr<FileDigest> Finish();
  // XXH3-128 of the bytes before the first tensor, and of each tensor written so far in the order
  // of the specs. Together they cover the file, so a mismatch shows which part is damaged.
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
  int64_t writeback_ = 0;  // length of the prefix whose writeback to disk has been started
  std::unique_ptr<ContentHash> hash_;
  std::unique_ptr<ContentHash> part_hash_;  // hash of the header, then of each tensor
  std::string header_hash_;
  std::vector<std::string> tensor_hashes_;
  absl::Status status_;
};

// Position and type of a tensor in a file.
struct TensorInfo {
  DType dtype = DType::kFloat32;
  std::vector<int64_t> shape;
  int64_t begin = 0;  // offset of the first byte from the start of the file
  int64_t bytes = 0;
};

// A file open for reading by any number of threads. Open fails on a damaged file with a one-line
// error that names the path, the tensor, the byte and the expected value.
class TensorFile {
 public:
  static absl::StatusOr<std::unique_ptr<TensorFile>> Open(const std::string& path);
  ~TensorFile();
  TensorFile(const TensorFile&) = delete;
  TensorFile& operator=(const TensorFile&) = delete;

  // In the order of their bytes in the file.
  const std::vector<std::string>& names() const { return names_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }

  absl::StatusOr<TensorInfo> Info(const std::string& name) const;
  // The bytes before the first tensor; valid during the lifetime of this object.
  absl::string_view header() const { return header_; }
  // Copies `bytes` bytes of the tensor, starting at its byte `begin`, to `to`. Returns an error
  // with the tensor and the byte if the disk fails or the file was truncated after Open.
  absl::Status ReadBytes(const std::string& name, int64_t begin, int64_t bytes, void* to) const;
  // Copies the tensor to `out`, whose type and shape must equal those in the file.
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
