// Reader and writer of token ids in Megatron's format (data/README.md#index, little-endian):
// PREFIX.bin holds the ids back to back, PREFIX.idx the length and start of each sequence. Both
// files are memory-mapped; opening reads only the index.
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

// Owns the two mappings. Immutable after Open; any thread may read. Out-of-range indices are CHECK
// failures.
class IndexedDataset {
 public:
  // Checks magic, version, dtype and sizes, that the sequences cover the .bin without gap or
  // overlap, and that they are text. INVALID_ARGUMENT names the file, the byte and the expected
  // value; a file that cannot be opened gives the error of MappedFile::Open.
  static absl::StatusOr<std::unique_ptr<IndexedDataset>> Open(const std::string& prefix);

  const std::string& prefix() const { return prefix_; }
  int64_t num_sequences() const { return num_sequences_; }
  int64_t num_documents() const { return num_document_entries_ - 1; }
  int64_t num_tokens() const { return bin_.bytes() / token_bytes_; }
  int token_bytes() const { return token_bytes_; }  // 1, 2, 4 or 8
  // Type of the ids in the .bin: "uint8", "int8", "int16", "int32", "int64" or "uint16".
  const char* token_type() const;
  // First token of sequence i in the stream of all sequences, for i in [0, num_sequences()].
  int64_t SequenceStart(int64_t i) const;
  // First sequence of document d, for d in [0, num_documents()].
  int64_t DocumentStart(int64_t d) const;
  // XXH3-128 of the whole .idx in hexadecimal.
  std::string IndexHash() const;
  // XXH3-128 of 64 evenly spaced samples of 4,096 bytes of the .bin in hexadecimal; of the whole
  // .bin if it is not larger than that.
  std::string TokenSampleHash() const;
  // Releases the memory of the index after it was read from end to end.
  void ReleaseIndexPages() const { index_.ReleasePages(); }
  // Copies tokens [begin, begin + out.size()) of the stream of all sequences, in file order. Ids
  // are not checked against a vocabulary. An id of the type int64 beyond the range of int32 is read
  // as the nearest int32, which no vocabulary holds.
  void Read(int64_t begin, absl::Span<int32_t> out) const;
  // The same with the exact ids of any type.
  void Read(int64_t begin, absl::Span<int64_t> out) const;
  // The id of one token.
  int64_t IdAt(int64_t token) const;

 private:
  IndexedDataset(std::string prefix, MappedFile index, MappedFile bin);

  absl::Status CheckHeader();
  absl::Status CheckSequences() const;
  absl::Status CheckDocuments() const;
  absl::Status CheckModes() const;
  int64_t LengthsAt() const;
  int64_t OffsetsAt() const;
  int64_t DocumentsAt() const;
  int64_t ModesAt() const;
  template <typename Out>
  void ReadAs(int64_t begin, absl::Span<Out> out) const;

  std::string prefix_;
  MappedFile index_;
  MappedFile bin_;
  int64_t num_sequences_ = 0;
  int64_t num_document_entries_ = 0;
  int type_code_ = 0;
  int token_bytes_ = 1;
};

// Writes PREFIX.bin and PREFIX.idx. Both are written under temporary names (.partial) and renamed
// by Finish, so that a killed writer never leaves an incomplete pair that opens; the next writer of
// the prefix overwrites the temporary files. One thread may use it.
class IndexedDatasetWriter {
 public:
  // Ids are stored as uint16 if vocab <= 65,500, else as int32 (data/README.md#index). UNAVAILABLE
  // if another process writes this prefix; INVALID_ARGUMENT if vocab is not 1 to 2^31 - 1; other
  // errors name the file that cannot be created.
  static absl::StatusOr<std::unique_ptr<IndexedDatasetWriter>> Create(const std::string& prefix,
                                                                      int64_t vocab);
  IndexedDatasetWriter(const IndexedDatasetWriter&) = delete;
  IndexedDatasetWriter& operator=(const IndexedDatasetWriter&) = delete;
  // Removes the temporary files unless Finish succeeded.
  ~IndexedDatasetWriter();

  // Adds a document of one sequence; an empty document has no sequence. Ids must be in [0, vocab)
  // (CHECK).
  absl::Status AddDocument(absl::Span<const int32_t> tokens);
  // The same in parts: adds tokens to the document that EndDocument ends. INVALID_ARGUMENT if the
  // document gets more tokens than the format holds.
  absl::Status AddTokens(absl::Span<const int32_t> tokens);
  absl::Status EndDocument();
  // Removes the tokens that were added since the last end of a document.
  absl::Status DropTokens();
  // Syncs both files to disk and renames them. Call once, last.
  absl::Status Finish();
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
  int64_t num_tokens_ = 0;                // of all documents, and of the one that has not ended
  int64_t open_tokens_ = 0;               // of the document that has not ended
  int64_t flushed_bytes_ = 0;             // written to the .bin
  std::vector<int32_t> lengths_;          // tokens of each sequence
  std::vector<int64_t> document_starts_;  // first sequence of each document, then their number
  std::string pending_;                   // bytes not yet written to the .bin
};

}  // namespace unipool
