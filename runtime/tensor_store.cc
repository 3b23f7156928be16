#include "runtime/tensor_store.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "runtime/content_hash.h"
#include "runtime/files.h"
#include "runtime/status.h"
#include "runtime/tensor_store_header.h"

namespace unipool {
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are stored in memory order");

constexpr int64_t kLengthBytes = 8;
constexpr int64_t kChunkBytes = int64_t{1} << 20;
constexpr int64_t kWritebackBytes = int64_t{8} << 20;

std::string Shape(DType dtype, absl::Span<const int64_t> shape) {
  return absl::StrCat(Name(dtype), "[", absl::StrJoin(shape, ", "), "]");
}

absl::Span<const int64_t> Dims(const Tensor& tensor) {
  return absl::MakeSpan(tensor.dims, static_cast<size_t>(tensor.rank));
}

// A file descriptor that is closed at the end of its scope.
class OpenFile {
 public:
  // Without O_NONBLOCK, opening a pipe would wait for its other end.
  OpenFile(const std::string& path, int flags)
      : file_(open(path.c_str(), flags | O_CLOEXEC | O_NONBLOCK, 0644)) {}
  ~OpenFile() {
    if (file_ >= 0) close(file_);
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  int get() const { return file_; }
  int release() { return std::exchange(file_, -1); }

 private:
  int file_;
};

// Size of a regular file. Returns an error for anything else, which could be neither read nor
// removed.
absl::StatusOr<int64_t> FileBytes(const std::string& path, const OpenFile& file) {
  struct stat status;
  if (file.get() < 0 || fstat(file.get(), &status) != 0) {
    return SystemError(errno, absl::StrCat(path, ": cannot open"));
  }
  if (S_ISREG(status.st_mode)) return static_cast<int64_t>(status.st_size);
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": not a regular file; give the path of a file"));
}

}  // namespace

absl::StatusOr<FileDigest> DigestFile(const std::string& path) {
  const OpenFile file(path, O_RDONLY);
  RETURN_IF_ERROR(FileBytes(path, file).status());
  std::vector<char> chunk(kChunkBytes);
  ContentHash hash;
  FileDigest digest;
  while (true) {
    const ssize_t got = read(file.get(), chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return SystemError(errno, absl::StrCat(path, ": byte ", digest.bytes, ": read"));
    }
    if (got == 0) break;
    hash.Add(chunk.data(), got);
    digest.bytes += got;
  }
  digest.xxh3_128 = hash.Hex();
  return digest;
}

TensorFileWriter::TensorFileWriter(const std::string& path, std::vector<TensorSpec> specs, int file)
    : path_(path),
      specs_(std::move(specs)),
      file_(file),
      hash_(std::make_unique<ContentHash>()),
      part_hash_(std::make_unique<ContentHash>()) {}

TensorFileWriter::~TensorFileWriter() {
  if (file_ < 0) return;
  close(file_);
  unlink(path_.c_str());
}

namespace {

// Returns the size of the file. The header is checked with the reader's parser: a header that would
// not be read back unchanged is refused.
absl::StatusOr<int64_t> CheckHeader(const std::string& path, const std::string& text,
                                    const std::vector<TensorSpec>& specs,
                                    const std::map<std::string, std::string>& metadata) {
  int64_t bytes = kLengthBytes + static_cast<int64_t>(text.size());
  std::vector<std::string> expected, found;
  for (const TensorSpec& spec : specs) {
    int64_t tensor_bytes = static_cast<int64_t>(SizeOf(spec.dtype));
    for (const int64_t dim : spec.shape) {
      if (dim >= 0 && !__builtin_mul_overflow(tensor_bytes, dim, &tensor_bytes)) continue;
      return absl::InvalidArgumentError(absl::StrCat(
          path, ": tensor '", spec.name, "' cannot have shape ", Shape(spec.dtype, spec.shape)));
    }
    bytes += tensor_bytes;
    expected.push_back(spec.name);
  }
  const auto header = ParseTensorHeader(path, text, bytes);
  if (!header.ok()) {
    return absl::InvalidArgumentError(absl::StripSuffix(header.status().message(), kDamageAdvice));
  }
  for (const auto& [name, info] : header->tensors) found.push_back(name);
  std::sort(expected.begin(), expected.end());
  std::sort(found.begin(), found.end());
  if (expected == found && header->metadata == metadata &&
      static_cast<int64_t>(text.size()) <= kMaxHeaderBytes) {
    return bytes;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": names and metadata must be UTF-8, and all of them fit in ",
                   kMaxHeaderBytes, " bytes"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorFileWriter>> TensorFileWriter::Create(
    const std::string& path, std::vector<TensorSpec> specs,
    const std::map<std::string, std::string>& metadata) {
  const std::string text = FormatTensorHeader(specs, metadata);
  ASSIGN_OR_RETURN(const int64_t file_bytes, CheckHeader(path, text, specs, metadata));
  OpenFile file(path, O_WRONLY | O_CREAT | O_TRUNC);
  RETURN_IF_ERROR(FileBytes(path, file).status());
  auto writer = std::unique_ptr<TensorFileWriter>(
      new TensorFileWriter(path, std::move(specs), file.release()));
  // Preallocation lets the file system lay the file out contiguously. If it is not supported or the
  // disk is full, the writes report the error.
  fallocate(writer->file_, FALLOC_FL_KEEP_SIZE, 0, file_bytes);
  const uint64_t text_bytes = text.size();
  RETURN_IF_ERROR(writer->Append(&text_bytes, kLengthBytes));
  RETURN_IF_ERROR(writer->Append(text.data(), static_cast<int64_t>(text.size())));
  writer->header_hash_ = writer->part_hash_->Hex();
  return writer;
}

// Writes chunk by chunk, so that hashing and copying find the bytes in cache.
absl::Status TensorFileWriter::Append(const void* data, int64_t bytes) {
  const char* at = static_cast<const char*>(data);
  const char* const end = at + bytes;
  while (at < end && status_.ok()) {
    const ssize_t put = write(file_, at, static_cast<size_t>(std::min(kChunkBytes, end - at)));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) {
      status_ = SystemError(errno, absl::StrCat(path_, ": byte ", written_, ": write"));
      break;
    }
    hash_->Add(at, put);
    part_hash_->Add(at, put);
    at += put;
    written_ += put;
    if (written_ - writeback_ >= kWritebackBytes) StartWriteback();
  }
  return status_;
}

// Starts writing to disk while the next bytes are hashed and copied, so that Finish waits less. It
// does not wait and ignores errors: fsync reports them.
void TensorFileWriter::StartWriteback() {
  sync_file_range(file_, writeback_, written_ - writeback_, SYNC_FILE_RANGE_WRITE);
  writeback_ = written_;
}

absl::Status TensorFileWriter::Write(const std::string& name, const Tensor& tensor) {
  CHECK_LT(next_, specs_.size()) << path_ << ": '" << name << "' after the last tensor";
  const TensorSpec& spec = specs_[next_];
  CHECK_EQ(name, spec.name) << path_ << ": out of order";
  CHECK(tensor.device.type == DeviceType::kCpu) << name;
  CHECK(tensor.dtype == spec.dtype && Dims(tensor) == absl::MakeConstSpan(spec.shape))
      << path_ << ": '" << name << "' must be " << Shape(spec.dtype, spec.shape) << ", found "
      << tensor.ShapeString();
  ++next_;
  part_hash_->Reset();
  RETURN_IF_ERROR(Append(tensor.data, tensor.bytes()));
  tensor_hashes_.push_back(part_hash_->Hex());
  if (next_ == specs_.size()) StartWriteback();
  return absl::OkStatus();
}

absl::StatusOr<FileDigest> TensorFileWriter::Finish() {
  CHECK_GE(file_, 0) << path_ << ": finished already";
  RETURN_IF_ERROR(status_);
  CHECK_EQ(next_, specs_.size()) << path_ << ": '" << specs_[next_].name << "' is missing";
  if (fsync(file_) != 0) {
    status_ = SystemError(errno, absl::StrCat(path_, ": fsync"));
    return status_;
  }
  if (close(std::exchange(file_, -1)) != 0) {
    status_ = SystemError(errno, absl::StrCat(path_, ": close"));
    unlink(path_.c_str());
    return status_;
  }
  return FileDigest{.bytes = written_, .xxh3_128 = hash_->Hex()};
}

TensorFile::TensorFile(const std::string& path, int file) : path_(path), file_(file) {}

TensorFile::~TensorFile() { close(file_); }

namespace {

// Reads bytes [at, at + bytes) of a file; `what` is part of the error. Does not use a memory map,
// because a failing disk or a truncated file would then kill the process.
absl::Status ReadAt(const std::string& path, const std::string& what, int file, int64_t at,
                    int64_t bytes, char* to) {
  while (bytes > 0) {
    const ssize_t got = pread(file, to, static_cast<size_t>(bytes), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) {
      return absl::DataLossError(
          absl::StrCat(path, ": ", what, ": byte ", at, ": read: ", std::strerror(errno)));
    }
    if (got == 0) {
      return absl::DataLossError(absl::StrCat(path, ": ", what, ": byte ", at, ": expected ", bytes,
                                              " bytes more, found the end", kDamageAdvice));
    }
    to += got;
    at += got;
    bytes -= got;
  }
  return absl::OkStatus();
}

// Reads the header length and the header text of a file of `bytes` bytes.
absl::StatusOr<std::string> ReadHeader(const std::string& path, int file, int64_t bytes) {
  if (bytes < kLengthBytes) {
    return absl::DataLossError(absl::StrCat(path, ": byte ", bytes,
                                            ": expected 8 bytes of header length, found the end",
                                            kDamageAdvice));
  }
  std::string header(kLengthBytes, '\0');
  RETURN_IF_ERROR(ReadAt(path, "the header", file, 0, kLengthBytes, header.data()));
  uint64_t length;
  std::memcpy(&length, header.data(), kLengthBytes);
  const int64_t max_length = std::min(bytes - kLengthBytes, kMaxHeaderBytes);
  if (length > static_cast<uint64_t>(max_length)) {
    return absl::DataLossError(absl::StrCat(path, ": byte 0: expected a header of at most ",
                                            max_length, " bytes in a file of ", bytes,
                                            ", found a length of ", length, kDamageAdvice));
  }
  header.resize(kLengthBytes + length);
  RETURN_IF_ERROR(ReadAt(path, "the header", file, kLengthBytes, static_cast<int64_t>(length),
                         header.data() + kLengthBytes));
  return header;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TensorFile>> TensorFile::Open(const std::string& path) {
  OpenFile file(path, O_RDONLY);
  ASSIGN_OR_RETURN(const int64_t bytes, FileBytes(path, file));
  auto opened = std::unique_ptr<TensorFile>(new TensorFile(path, file.release()));
  ASSIGN_OR_RETURN(opened->header_, ReadHeader(path, opened->file_, bytes));
  const absl::string_view text = absl::string_view(opened->header_).substr(kLengthBytes);
  ASSIGN_OR_RETURN(TensorHeader header, ParseTensorHeader(path, text, bytes));
  for (auto& [name, info] : header.tensors) {
    opened->names_.push_back(name);
    opened->tensors_.emplace(name, std::move(info));
  }
  opened->metadata_ = std::move(header.metadata);
  return opened;
}

absl::StatusOr<TensorInfo> TensorFile::Info(const std::string& name) const {
  const auto found = tensors_.find(name);
  if (found != tensors_.end()) return found->second;
  return absl::NotFoundError(absl::StrCat(path_, ": contains no tensor '", name, "'"));
}

absl::Status TensorFile::ReadBytes(const std::string& name, int64_t begin, int64_t bytes,
                                   void* to) const {
  ASSIGN_OR_RETURN(const TensorInfo info, Info(name));
  CHECK(begin >= 0 && bytes >= 0 && begin + bytes <= info.bytes) << name;
  return ReadAt(path_, absl::StrCat("tensor '", name, "'"), file_, info.begin + begin, bytes,
                static_cast<char*>(to));
}

absl::Status TensorFile::Read(const std::string& name, const Tensor& out) const {
  CHECK(out.device.type == DeviceType::kCpu) << name;
  ASSIGN_OR_RETURN(const TensorInfo info, Info(name));
  if (out.dtype != info.dtype || Dims(out) != absl::MakeConstSpan(info.shape)) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": tensor '", name, "' at byte ",
                                                   info.begin, ": expected ", out.ShapeString(),
                                                   ", found ", Shape(info.dtype, info.shape)));
  }
  return ReadBytes(name, 0, info.bytes, out.data);
}

}  // namespace unipool
