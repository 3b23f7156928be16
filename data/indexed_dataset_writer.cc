#include <fcntl.h>
#include <glog/logging.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "data/index_format.h"
#include "data/indexed_dataset.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr int64_t kLargestUint16Vocab = 65500;
constexpr size_t kFlushBytes = 1 << 20;
constexpr char kPartial[] = ".partial";

absl::Status WriteAll(int fd, const std::string& path, absl::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return SystemError(errno, absl::StrCat(path, ": cannot write"));
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status Sync(int fd, const std::string& path) {
  if (fsync(fd) == 0) return absl::OkStatus();
  return SystemError(errno, absl::StrCat(path, ": cannot sync to disk"));
}

std::string FolderOf(const std::string& path) {
  return (std::filesystem::path(path).parent_path() / ".").string();
}

template <typename T>
void AppendRaw(T value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

std::string IndexHeader(int token_bytes, int64_t sequences, int64_t document_entries) {
  std::string header(index_format::kMagic, index_format::kMagicBytes);
  AppendRaw(index_format::kVersion, &header);
  AppendRaw(static_cast<uint8_t>(token_bytes == 2 ? index_format::kUint16 : index_format::kInt32),
            &header);
  AppendRaw(sequences, &header);
  AppendRaw(document_entries, &header);
  return header;
}

template <typename T>
absl::string_view RawBytes(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<IndexedDatasetWriter>> IndexedDatasetWriter::Create(
    const std::string& prefix, int64_t vocab) {
  if (vocab <= 0 || vocab > std::numeric_limits<int32_t>::max()) {
    return absl::InvalidArgumentError(
        absl::StrCat("a vocabulary of ", vocab, " ids; it must have 1 to 2147483647"));
  }
  const std::string path = prefix + ".bin" + kPartial;
  // The file is truncated only under the lock, because another writer may be using it.
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
  if (fd < 0) return SystemError(errno, absl::StrCat(path, ": cannot create"));
  if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
    close(fd);
    return absl::UnavailableError(absl::StrCat(
        path, ": another process is writing it; wait for it or choose another PREFIX"));
  }
  if (ftruncate(fd, 0) != 0) {
    const int error = errno;
    close(fd);
    return SystemError(error, absl::StrCat(path, ": cannot truncate"));
  }
  return std::unique_ptr<IndexedDatasetWriter>(new IndexedDatasetWriter(prefix, vocab, fd));
}

IndexedDatasetWriter::IndexedDatasetWriter(std::string prefix, int64_t vocab, int bin_fd)
    : prefix_(std::move(prefix)),
      vocab_(vocab),
      token_bytes_(vocab <= kLargestUint16Vocab ? 2 : 4),
      bin_fd_(bin_fd),
      document_starts_({0}) {
  pending_.reserve(2 * kFlushBytes);
}

IndexedDatasetWriter::~IndexedDatasetWriter() {
  if (!finished_) {
    unlink((prefix_ + ".bin" + kPartial).c_str());
    unlink((prefix_ + ".idx" + kPartial).c_str());
  }
  close(bin_fd_);
}

absl::Status IndexedDatasetWriter::AddDocument(absl::Span<const int32_t> tokens) {
  RETURN_IF_ERROR(AddTokens(tokens));
  return EndDocument();
}

absl::Status IndexedDatasetWriter::AddTokens(absl::Span<const int32_t> tokens) {
  CHECK(!finished_) << prefix_;
  constexpr int64_t kMaxTokens = std::numeric_limits<int32_t>::max();
  if (static_cast<int64_t>(tokens.size()) > kMaxTokens - open_tokens_) {
    return absl::InvalidArgumentError(absl::StrCat(prefix_, ": document ", num_documents(),
                                                   " has more than ", kMaxTokens,
                                                   " tokens, the maximum of the format; split it"));
  }
  const auto vocab = static_cast<uint32_t>(vocab_);
  for (const int32_t id : tokens) CHECK_LT(static_cast<uint32_t>(id), vocab) << prefix_;
  AppendIds(tokens);
  open_tokens_ += static_cast<int64_t>(tokens.size());
  num_tokens_ += static_cast<int64_t>(tokens.size());
  return pending_.size() >= kFlushBytes ? FlushBin() : absl::OkStatus();
}

absl::Status IndexedDatasetWriter::EndDocument() {
  if (open_tokens_ > 0) lengths_.push_back(static_cast<int32_t>(open_tokens_));
  open_tokens_ = 0;
  document_starts_.push_back(static_cast<int64_t>(lengths_.size()));
  return absl::OkStatus();
}

absl::Status IndexedDatasetWriter::DropTokens() {
  RETURN_IF_ERROR(FlushBin());
  flushed_bytes_ -= open_tokens_ * token_bytes_;
  num_tokens_ -= open_tokens_;
  open_tokens_ = 0;
  const bool cut = ftruncate(bin_fd_, flushed_bytes_) == 0 &&
                   lseek(bin_fd_, flushed_bytes_, SEEK_SET) == flushed_bytes_;
  if (cut) return absl::OkStatus();
  return SystemError(errno, absl::StrCat(prefix_, ".bin", kPartial, ": cannot truncate"));
}

void IndexedDatasetWriter::AppendIds(absl::Span<const int32_t> tokens) {
  const size_t before = pending_.size();
  pending_.resize(before + tokens.size() * token_bytes_);
  char* out = pending_.data() + before;
  if (token_bytes_ == 4) {
    std::copy_n(reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(int32_t), out);
    return;
  }
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<uint16_t>(tokens[i]);
    std::memcpy(out + i * sizeof(id), &id, sizeof(id));
  }
}

absl::Status IndexedDatasetWriter::FlushBin() {
  RETURN_IF_ERROR(WriteAll(bin_fd_, prefix_ + ".bin" + kPartial, pending_));
  flushed_bytes_ += static_cast<int64_t>(pending_.size());
  pending_.clear();
  return absl::OkStatus();
}

absl::Status IndexedDatasetWriter::WriteIndex() const {
  const std::string path = prefix_ + ".idx" + kPartial;
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd < 0) return SystemError(errno, absl::StrCat(path, ": cannot create"));
  std::vector<int64_t> offsets(lengths_.size());
  int64_t offset = 0;
  for (size_t i = 0; i < lengths_.size(); ++i) {
    offsets[i] = offset;
    offset += int64_t{lengths_[i]} * token_bytes_;
  }
  absl::Status status = WriteAll(fd, path,
                                 IndexHeader(token_bytes_, static_cast<int64_t>(lengths_.size()),
                                             static_cast<int64_t>(document_starts_.size())));
  if (status.ok()) status = WriteAll(fd, path, RawBytes(lengths_));
  if (status.ok()) status = WriteAll(fd, path, RawBytes(offsets));
  if (status.ok()) status = WriteAll(fd, path, RawBytes(document_starts_));
  if (status.ok()) status = Sync(fd, path);
  close(fd);
  return status;
}

// Removes an old index first and renames the new one last, so that an index never exists beside the
// ids of another data set.
absl::Status IndexedDatasetWriter::Publish() const {
  const std::string bin = prefix_ + ".bin", idx = prefix_ + ".idx";
  if (unlink(idx.c_str()) != 0 && errno != ENOENT) {
    return SystemError(errno, absl::StrCat(idx, ": cannot replace"));
  }
  RETURN_IF_ERROR(Rename(bin + kPartial, bin));
  RETURN_IF_ERROR(Rename(idx + kPartial, idx));
  return SyncFolder(FolderOf(idx));
}

absl::Status IndexedDatasetWriter::Finish() {
  CHECK(!finished_) << prefix_;
  CHECK_EQ(open_tokens_, 0) << "tokens of a document that has not ended";
  RETURN_IF_ERROR(FlushBin());
  RETURN_IF_ERROR(Sync(bin_fd_, prefix_ + ".bin" + kPartial));
  RETURN_IF_ERROR(WriteIndex());
  RETURN_IF_ERROR(Publish());
  finished_ = true;
  return absl::OkStatus();
}

}  // namespace unipool
