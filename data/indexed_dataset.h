// Token ids on disk in Megatron's format: PREFIX.bin holds the ids back to back, PREFIX.idx says
// where each sequence (document) starts. Both are memory-mapped; opening reads only the index.
// Layout, little-endian: data/README.md (facts J.1). Immutable after Open; any thread may read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace unipool {

class IndexedDataset {
 public:
  // Checks magic, version, dtype, sizes and that the sequences tile the .bin without gap or overlap;
  // an error names the file, the byte and what was expected.
  static absl::StatusOr<std::unique_ptr<IndexedDataset>> Open(const std::string& prefix);
  virtual ~IndexedDataset() = default;

  virtual const std::string& prefix() const = 0;
  virtual int64_t num_sequences() const = 0;
  virtual int64_t num_tokens() const = 0;
  virtual int token_bytes() const = 0;  // 1, 2 or 4
  // Tokens before sequence i, for i in [0, num_sequences()]: where it starts in the stream.
  virtual int64_t SequenceStart(int64_t i) const = 0;
  // Tokens [begin, begin + out.size()) of the stream of all sequences in file order.
  virtual void Read(int64_t begin, absl::Span<int32_t> out) const = 0;
};

// Writes the pair. Both files are written under temporary names and renamed by Finish, so that a
// killed writer leaves nothing that looks whole.
class IndexedDatasetWriter {
 public:
  // Ids are stored as uint16 when vocab <= 65,500, else int32 (facts J.1).
  static absl::StatusOr<std::unique_ptr<IndexedDatasetWriter>> Create(const std::string& prefix,
                                                                      int64_t vocab);
  // Without Finish, removes the temporary files.
  virtual ~IndexedDatasetWriter() = default;

  // One document of one sequence; an empty one makes a document without a sequence.
  virtual absl::Status AddDocument(absl::Span<const int32_t> tokens) = 0;
  virtual absl::Status Finish() = 0;  // fsync, then rename
  virtual int64_t num_documents() const = 0;
  virtual int64_t num_tokens() const = 0;
};

}  // namespace unipool
