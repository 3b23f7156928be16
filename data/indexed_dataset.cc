#include "data/indexed_dataset.h"

#include <glog/logging.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "data/index_format.h"
#include "runtime/content_hash.h"
#include "runtime/status.h"

namespace unipool {
namespace {

static_assert(std::endian::native == std::endian::little, "the file format is little-endian");

// For reads of at least this size the kernel is asked to fetch the pages ahead.
constexpr int64_t kFetchAheadBytes = 1 << 16;

// memcpy, because the arrays of an index start at byte 34 and are not aligned.
template <typename T>
T Load(const MappedFile& file, int64_t offset) {
  T value;
  std::memcpy(&value, file.data() + offset, sizeof(T));
  return value;
}

absl::string_view Bytes(const MappedFile& file, int64_t begin, int64_t count) {
  return {reinterpret_cast<const char*>(file.data()) + begin, static_cast<size_t>(count)};
}

// Converts ids of type T; one beyond the range of Out becomes the nearest Out.
template <typename T, typename Out>
void Convert(const uint8_t* source, absl::Span<Out> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    T id;
    std::memcpy(&id, source + i * sizeof(T), sizeof(T));
    if constexpr (sizeof(T) > sizeof(Out)) {
      id = std::clamp<T>(id, std::numeric_limits<Out>::min(), std::numeric_limits<Out>::max());
    }
    out[i] = static_cast<Out>(id);  // NOLINT(bugprone-signed-char-misuse): a number
  }
}

absl::Status Damaged(const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": ", what, "; copy the file again or prepare the data again"));
}

absl::StatusOr<int> TokenBytes(const std::string& path, int code) {
  switch (code) {
    case index_format::kUint8:
    case index_format::kInt8:
      return 1;
    case index_format::kInt16:
    case index_format::kUint16:
      return 2;
    case index_format::kInt32:
      return 4;
    case index_format::kInt64:
      return 8;
    default:
      break;
  }
  const std::string name = index_format::TypeName(code);
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": dtype code ", code, name.empty() ? "" : absl::StrCat(" (", name, ")"),
      " at byte 17, expected an integer type: 1 (uint8), 2 (int8), 3 (int16), 4 (int32), 5 (int64) "
      "or 8 (uint16); prepare the data again with one of these types"));
}

}  // namespace

IndexedDataset::IndexedDataset(std::string prefix, MappedFile index, MappedFile bin)
    : prefix_(std::move(prefix)), index_(std::move(index)), bin_(std::move(bin)) {}

absl::StatusOr<std::unique_ptr<IndexedDataset>> IndexedDataset::Open(const std::string& prefix) {
  ASSIGN_OR_RETURN(MappedFile index, MappedFile::Open(prefix + ".idx"));
  ASSIGN_OR_RETURN(MappedFile bin, MappedFile::Open(prefix + ".bin"));
  std::unique_ptr<IndexedDataset> dataset(
      new IndexedDataset(prefix, std::move(index), std::move(bin)));
  RETURN_IF_ERROR(dataset->CheckHeader());
  dataset->index_.WillNeed(0, dataset->index_.bytes());
  RETURN_IF_ERROR(dataset->CheckSequences());
  RETURN_IF_ERROR(dataset->CheckDocuments());
  RETURN_IF_ERROR(dataset->CheckModes());
  // Shuffled samples are a few kilobytes each; reading ahead would mostly fetch pages that are not
  // used.
  dataset->bin_.ExpectRandomReads();
  dataset->index_.ExpectRandomReads();
  dataset->index_.ReleasePages();
  return dataset;
}

absl::Status IndexedDataset::CheckHeader() {
  const std::string path = prefix_ + ".idx";
  const int64_t bytes = index_.bytes();
  if (bytes < index_format::kHeaderBytes) {
    return Damaged(path,
                   absl::StrCat(bytes, " bytes, the header needs ", index_format::kHeaderBytes));
  }
  for (int64_t i = 0; i < index_format::kMagicBytes; ++i) {
    const int seen = index_.data()[i], expected = static_cast<uint8_t>(index_format::kMagic[i]);
    if (seen == expected) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": byte ", i, " is 0x", absl::Hex(seen, absl::kZeroPad2),
                     ", expected 0x", absl::Hex(expected, absl::kZeroPad2),
                     " of the magic \"MMIDIDX\": not an index of token ids; check the prefix"));
  }
  const auto version = Load<uint64_t>(index_, index_format::kVersionAt);
  if (version != index_format::kVersion) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": version ", version,
                     " at byte 9, expected 1; prepare the data again with unipool data prepare"));
  }
  type_code_ = index_.data()[index_format::kDtypeAt];
  ASSIGN_OR_RETURN(token_bytes_, TokenBytes(path, type_code_));
  const auto sequences = Load<uint64_t>(index_, index_format::kSequencesAt);
  const auto entries = Load<uint64_t>(index_, index_format::kDocumentsAt);
  const std::string stated =
      absl::StrCat(sequences, " sequences (byte 18) and ", entries, " document entries (byte 26)");
  // Counts beyond the file's size would overflow the sum below.
  const auto limit = static_cast<uint64_t>(bytes);
  if (sequences > limit || entries > limit) {
    return Damaged(path, absl::StrCat(bytes, " bytes cannot hold the stated ", stated));
  }
  if (entries == 0) {
    return Damaged(path, "0 document entries at byte 26, expected documents + 1");
  }
  num_sequences_ = static_cast<int64_t>(sequences);
  num_document_entries_ = static_cast<int64_t>(entries);
  const int64_t needed = ModesAt(), with_modes = needed + num_sequences_;
  if (bytes == needed || bytes == with_modes) return absl::OkStatus();
  return Damaged(path, absl::StrCat(bytes, " bytes, the header states ", stated, ", which need ",
                                    needed, " bytes, or ", with_modes, " with modes"));
}

absl::Status IndexedDataset::CheckSequences() const {
  const std::string path = prefix_ + ".idx";
  int64_t end = 0;             // end of the sequences so far, in bytes of the .bin
  int64_t past_sequence = -1;  // first sequence that ends beyond the .bin
  int64_t past_end = 0;
  for (int64_t i = 0; i < num_sequences_; ++i) {
    const auto length = Load<int32_t>(index_, LengthsAt() + 4 * i);
    if (length < 0) {
      return Damaged(path, absl::StrCat("sequence ", i, " has ", length, " tokens at byte ",
                                        LengthsAt() + 4 * i, ", expected 0 or more"));
    }
    const auto offset = Load<int64_t>(index_, OffsetsAt() + 8 * i);
    if (offset != end) {
      return Damaged(
          path, absl::StrCat("sequence ", i, " starts at byte ", offset, " of the .bin (byte ",
                             OffsetsAt() + 8 * i, "), expected ", end,
                             ": sequences must follow one another without a gap or an overlap"));
    }
    end += int64_t{length} * token_bytes_;
    if (end > bin_.bytes() && past_sequence < 0) {
      past_sequence = i;
      past_end = end;
    }
  }
  if (end == bin_.bytes()) return absl::OkStatus();
  std::string message = absl::StrCat(bin_.bytes(), " bytes, the index needs ", end);
  if (past_sequence >= 0) {
    absl::StrAppend(&message, " (sequence ", past_sequence, " ends at byte ", past_end, ")");
  }
  return Damaged(prefix_ + ".bin", message);
}

absl::Status IndexedDataset::CheckDocuments() const {
  int64_t before = 0;
  for (int64_t d = 0; d < num_document_entries_; ++d) {
    const auto start = Load<int64_t>(index_, DocumentsAt() + 8 * d);
    const int64_t high = d == 0 ? 0 : num_sequences_;
    if (start < before || start > high) {
      return Damaged(
          prefix_ + ".idx",
          absl::StrCat("document entry ", d, " is ", start, " at byte ", DocumentsAt() + 8 * d,
                       ", expected ",
                       before == high ? absl::StrCat(high) : absl::StrCat(before, " to ", high)));
    }
    before = start;
  }
  if (before == num_sequences_) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      prefix_, ".idx: the last document entry is ", before, " at byte ", ModesAt() - 8,
      ", expected ", num_sequences_,
      ", the number of sequences: the last document was never ended; "
      "call end_document() before finalize() where it is written, or prepare the data again"));
}

absl::Status IndexedDataset::CheckModes() const {
  for (int64_t at = ModesAt(); at < index_.bytes(); ++at) {
    const auto mode = Load<int8_t>(index_, at);
    if (mode == index_format::kTextMode) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(prefix_, ".idx: multimodal index: sequence ", at - ModesAt(), " has mode ",
                     mode, " at byte ", at, ", expected ", index_format::kTextMode,
                     " (text); write the sequences of text to a dataset of their own"));
  }
  return absl::OkStatus();
}

int64_t IndexedDataset::LengthsAt() const { return index_format::kHeaderBytes; }
int64_t IndexedDataset::OffsetsAt() const { return LengthsAt() + 4 * num_sequences_; }
int64_t IndexedDataset::DocumentsAt() const { return OffsetsAt() + 8 * num_sequences_; }

int64_t IndexedDataset::ModesAt() const { return DocumentsAt() + 8 * num_document_entries_; }

const char* IndexedDataset::token_type() const { return index_format::TypeName(type_code_); }

int64_t IndexedDataset::SequenceStart(int64_t i) const {
  CHECK(i >= 0 && i <= num_sequences_) << i << " of " << num_sequences_;
  if (i == num_sequences_) return num_tokens();
  return Load<int64_t>(index_, OffsetsAt() + 8 * i) / token_bytes_;
}

std::string IndexedDataset::IndexHash() const {
  std::string hash = ContentHash::Of(Bytes(index_, 0, index_.bytes()));
  index_.ReleasePages();
  return hash;
}

std::string IndexedDataset::TokenSampleHash() const {
  constexpr int64_t kSamples = 64, kSampleBytes = 4096;
  if (bin_.bytes() <= kSamples * kSampleBytes) {
    return ContentHash::Of(Bytes(bin_, 0, bin_.bytes()));
  }
  ContentHash hash;
  for (int64_t i = 0; i < kSamples; ++i) {
    const int64_t begin = (bin_.bytes() - kSampleBytes) * i / (kSamples - 1);
    hash.Add(bin_.data() + begin, kSampleBytes);
  }
  bin_.ReleasePages();
  return hash.Hex();
}

int64_t IndexedDataset::DocumentStart(int64_t d) const {
  CHECK(d >= 0 && d < num_document_entries_) << d << " of " << num_documents();
  return Load<int64_t>(index_, DocumentsAt() + 8 * d);
}

template <typename Out>
void IndexedDataset::ReadAs(int64_t begin, absl::Span<Out> out) const {
  const auto count = static_cast<int64_t>(out.size());
  CHECK(begin >= 0 && begin <= num_tokens() && count <= num_tokens() - begin)
      << begin << " + " << count << " of " << num_tokens() << " tokens in " << prefix_;
  if (count == 0) return;
  index_.CountRead();  // a caller looks up positions in the index before it reads tokens
  bin_.CountRead();
  if (count * token_bytes_ >= kFetchAheadBytes) {
    bin_.WillNeed(begin * token_bytes_, count * token_bytes_);
  }
  const uint8_t* source = bin_.data() + begin * token_bytes_;
  switch (type_code_) {
    case index_format::kUint8:
      return Convert<uint8_t>(source, out);
    case index_format::kInt8:
      return Convert<int8_t>(source, out);
    case index_format::kInt16:
      return Convert<int16_t>(source, out);
    case index_format::kInt32:
      return Convert<int32_t>(source, out);
    case index_format::kInt64:
      return Convert<int64_t>(source, out);
    default:
      return Convert<uint16_t>(source, out);
  }
}

void IndexedDataset::Read(int64_t begin, absl::Span<int32_t> out) const { ReadAs(begin, out); }

void IndexedDataset::Read(int64_t begin, absl::Span<int64_t> out) const { ReadAs(begin, out); }

int64_t IndexedDataset::IdAt(int64_t token) const {
  int64_t id = 0;
  ReadAs(token, absl::MakeSpan(&id, 1));
  return id;
}

}  // namespace unipool
