// Token ids on disk in Megatron's format: PREFIX.bin holds the ids back to back, PREFIX.idx says
// where each sequence (document) starts. Both are memory-mapped; opening reads only the index.
// Layout, little-endian: data/README.md (data/README.md#index). Immutable after Open; any thread
// may read.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "data/mapped_file.h"

namespace unipool {

class IndexedDataset {
 public:
  // Checks magic, version, dtype, sizes and that the sequences tile the .bin without gap or
  // overlap; an error names the file, the byte and what was expected.
  static absl::StatusOr<std::unique_ptr<IndexedDataset>> Open(const std::string& prefix);

  const std::string& prefix() const { return prefix_; }
  int64_t num_sequences() const { return num_sequences_; }
  int64_t num_documents() const { return num_document_entries_ - 1; }
  int64_t num_tokens() const { return bin_.bytes() / token_bytes_; }
  int token_bytes() const { return token_bytes_; }  // 1, 2 or 4
  // Tokens before sequence i, for i in [0, num_sequences()]: where it starts in the stream.
  int64_t SequenceStart(int64_t i) const;
  // Sequences before document d, for d in [0, num_documents()].
  int64_t DocumentStart(int64_t d) const;
  // The index's bytes as XXH3-128 in hexadecimal; reads all of them.
  std::string IndexHash() const;
  // That of the .bin's bytes in 64 places, 4,096 bytes each, from its start to its end; of all of
  // them where there are fewer.
  std::string TokenSampleHash() const;
  // Gives back the memory of an index that has been read from end to end.
  void ForgetIndex() const { index_.Forget(); }
  // Tokens [begin, begin + out.size()) of the stream of all sequences in file order.
  void Read(int64_t begin, absl::Span<int32_t> out) const;

 private:
  IndexedDataset(std::string prefix, MappedFile index, MappedFile bin);

  absl::Status CheckHeader();
  absl::Status CheckSequences() const;
  absl::Status CheckDocuments() const;
  int64_t LengthsAt() const;
  int64_t OffsetsAt() const;
  int64_t DocumentsAt() const;

  std::string prefix_;
  MappedFile index_;
  MappedFile bin_;
  int64_t num_sequences_ = 0;
  int64_t num_document_entries_ = 0;
  int token_bytes_ = 1;
};

// Writes the pair. Both files are written under temporary names (.partial) and renamed by Finish,
// so that a killed writer leaves nothing that looks whole; the next writer of the prefix reuses
// them.
class IndexedDatasetWriter {
 public:
  // Ids are stored as uint16 when vocab <= 65,500, else int32 (data/README.md#index).
  static absl::StatusOr<std::unique_ptr<IndexedDatasetWriter>> Create(const std::string& prefix,
                                                                      int64_t vocab);
  IndexedDatasetWriter(const IndexedDatasetWriter&) = delete;
  IndexedDatasetWriter& operator=(const IndexedDatasetWriter&) = delete;
  // Without Finish, removes the temporary files.
  ~IndexedDatasetWriter();

  // One document of one sequence; an empty one makes a document without a sequence.
  absl::Status AddDocument(absl::Span<const int32_t> tokens);
  absl::Status Finish();  // fsync, then rename
  int64_t num_documents() const { return static_cast<int64_t>(document_starts_.size()) - 1; }
  int64_t num_tokens() const { return num_tokens_; }

 private:
  IndexedDatasetWriter(std::string prefix, int64_t vocab, int bin_fd);

  void AppendIds(absl::Span<const int32_t> tokens);
  absl::Status FlushBin();
  absl::Status WriteIndex() const;
  absl::Status Publish() const;

  std::string prefix_;
  int64_t vocab_;
  int token_bytes_;
  int bin_fd_;
  bool finished_ = false;
  int64_t num_tokens_ = 0;
  std::vector<int32_t> lengths_;          // of each sequence, in tokens
  std::vector<int64_t> document_starts_;  // sequences before each document, and their number
  std::string pending_;                   // bytes not yet written to the .bin
};

}  // namespace unipool
