#include "data/prepare/text_source.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "data/input_file.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr size_t kReadBytes = 1 << 17;
constexpr size_t kHeadBytes = 4;  // that show the compression

class PlainSource : public TextSource {
 public:
  PlainSource(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  PlainSource(const PlainSource&) = delete;
  PlainSource& operator=(const PlainSource&) = delete;
  ~PlainSource() override { close(fd_); }

  // The first `bytes` bytes, fewer at the end of the file; Read returns them too. Call it first.
  absl::StatusOr<absl::string_view> Head(size_t bytes) {
    head_.resize(bytes);
    size_t filled = 0;
    while (filled < bytes) {
      ASSIGN_OR_RETURN(const size_t got, ReadFile(head_.data() + filled, bytes - filled));
      if (got == 0) break;
      filled += got;
    }
    head_.resize(filled);
    return head_;
  }

  absl::StatusOr<size_t> Read(char* to, size_t bytes) override {
    size_t got = std::min(bytes, head_.size());
    if (got > 0) {
      head_.copy(to, got);
      head_.erase(0, got);
    } else {
      ASSIGN_OR_RETURN(got, ReadFile(to, bytes));
    }
    file_bytes_ += static_cast<int64_t>(got);
    return got;
  }
  int64_t file_bytes() const override { return file_bytes_; }

 private:
  absl::StatusOr<size_t> ReadFile(char* to, size_t bytes) {
    ssize_t got;
    do got = read(fd_, to, bytes);
    while (got < 0 && errno == EINTR);
    if (got >= 0) return static_cast<size_t>(got);
    return SystemError(errno, absl::StrCat(path_, ": cannot read at byte ", file_bytes_));
  }

  const std::string path_;
  const int fd_;
  std::string head_;        // read from the file, not yet returned
  int64_t file_bytes_ = 0;  // returned
};

// The result of one call of a decompression library.
struct Step {
  size_t consumed = 0;            // bytes of input
  size_t produced = 0;            // bytes of output
  bool is_member_end = false;     // a gzip member or zstd frame ends here
  const char* problem = nullptr;  // what is wrong with the data; null if nothing is
};

class Decompressor {
 public:
  virtual ~Decompressor() = default;
  virtual Step Run(const char* input, size_t input_bytes, char* to, size_t bytes) = 0;
};

class GzipDecompressor : public Decompressor {
 public:
  GzipDecompressor() { is_ready_ = inflateInit2(&stream_, kGzip) == Z_OK; }
  ~GzipDecompressor() override { inflateEnd(&stream_); }

  Step Run(const char* input, size_t input_bytes, char* to, size_t bytes) override {
    if (!is_ready_) return {.problem = "not enough memory to decompress"};
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(input));
    stream_.avail_in = static_cast<uInt>(input_bytes);
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = static_cast<uInt>(std::min<size_t>(bytes, UINT_MAX));
    const uInt room = stream_.avail_out;
    const int code = inflate(&stream_, Z_NO_FLUSH);
    Step step{input_bytes - stream_.avail_in, room - stream_.avail_out, code == Z_STREAM_END};
    if (step.is_member_end) inflateReset(&stream_);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
      step.problem = stream_.msg != nullptr ? stream_.msg : zError(code);
    }
    return step;
  }

 private:
  static constexpr int kGzip = 16 + MAX_WBITS;
  z_stream stream_{};
  bool is_ready_;
};

class ZstdDecompressor : public Decompressor {
 public:
  ZstdDecompressor() : stream_(ZSTD_createDStream()) {
    // Accept files that were compressed with --long.
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax,
                           ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound);
  }
  ZstdDecompressor(const ZstdDecompressor&) = delete;
  ZstdDecompressor& operator=(const ZstdDecompressor&) = delete;
  ~ZstdDecompressor() override { ZSTD_freeDStream(stream_); }

  Step Run(const char* input, size_t input_bytes, char* to, size_t bytes) override {
    ZSTD_inBuffer in{input, input_bytes, 0};
    ZSTD_outBuffer out{to, bytes, 0};
    const size_t code = ZSTD_decompressStream(stream_, &out, &in);
    const bool is_damaged = ZSTD_isError(code) != 0;
    return {in.pos, out.pos, code == 0, is_damaged ? ZSTD_getErrorName(code) : nullptr};
  }

 private:
  ZSTD_DStream* stream_;
};

class CompressedSource : public TextSource {
 public:
  CompressedSource(std::string path, std::string compression, std::unique_ptr<PlainSource> file)
      : path_(std::move(path)), compression_(std::move(compression)), file_(std::move(file)) {
    if (compression_ == "gz") decompressor_ = std::make_unique<GzipDecompressor>();
    if (compression_ == "zst") decompressor_ = std::make_unique<ZstdDecompressor>();
  }

  absl::StatusOr<size_t> Read(char* to, size_t bytes) override {
    while (true) {
      if (at_member_end_) SkipZeros();
      if (begin_ == end_) {
        ASSIGN_OR_RETURN(end_, file_->Read(input_.data(), input_.size()));
        begin_ = 0;
        if (end_ == 0 && at_member_end_) return 0;
        if (at_member_end_) continue;
      }
      const Step step = decompressor_->Run(input_.data() + begin_, end_ - begin_, to, bytes);
      const int64_t at = file_->file_bytes() - static_cast<int64_t>(end_ - begin_);
      if (step.problem != nullptr) return Damaged(at, step.problem);
      if (end_ == 0 && step.produced == 0 && !step.is_member_end) return Damaged(at, "truncated");
      begin_ += step.consumed;
      at_member_end_ = step.is_member_end;
      if (step.produced > 0) return step.produced;
    }
  }
  int64_t file_bytes() const override { return file_->file_bytes(); }

 private:
  void SkipZeros() {
    while (begin_ < end_ && input_[begin_] == '\0') ++begin_;
  }

  absl::Status Damaged(int64_t at, const char* what) const {
    return absl::DataLossError(absl::StrCat(path_, ": ", what, " at byte ", at,
                                            "; copy or download the ", compression_,
                                            " file again"));
  }

  const std::string path_;
  const std::string compression_;
  std::unique_ptr<PlainSource> file_;
  std::unique_ptr<Decompressor> decompressor_;
  std::string input_ = std::string(kReadBytes, '\0');
  size_t begin_ = 0, end_ = 0;  // unread part of input_
  bool at_member_end_ = false;  // false for an empty file, which has no member
};

// The compression that the first bytes of a file show.
std::string CompressionOfHead(absl::string_view head) {
  if (absl::StartsWith(head, "\x1f\x8b")) return "gz";
  if (absl::StartsWith(head, "\x28\xb5\x2f\xfd")) return "zst";
  // A skippable frame may precede the others.
  const bool is_skippable =
      head.size() >= kHeadBytes && (head[0] & 0xf0) == 0x50 && absl::EndsWith(head, "\x2a\x4d\x18");
  return is_skippable ? "zst" : "";
}

}  // namespace

std::string TextSource::CompressionOf(const std::string& path) {
  for (const auto& [extension, compression] :
       {std::pair{".gz", "gz"}, {".gzip", "gz"}, {".zst", "zst"}, {".zstd", "zst"}}) {
    if (absl::EndsWithIgnoreCase(path, extension)) return compression;
  }
  return "";
}

absl::StatusOr<std::unique_ptr<TextSource>> TextSource::Open(const std::string& path) {
  ASSIGN_OR_RETURN(const int fd, OpenInput(path));
  posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  auto file = std::make_unique<PlainSource>(path, fd);
  ASSIGN_OR_RETURN(const absl::string_view head, file->Head(kHeadBytes));
  std::string compression = CompressionOfHead(head);
  if (compression.empty()) compression = CompressionOf(path);
  if (compression.empty()) return file;
  return std::make_unique<CompressedSource>(path, std::move(compression), std::move(file));
}

}  // namespace unipool
