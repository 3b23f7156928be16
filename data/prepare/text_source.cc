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
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr size_t kPackedBytes = 1 << 17;

class PlainSource : public TextSource {
 public:
  PlainSource(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  PlainSource(const PlainSource&) = delete;
  PlainSource& operator=(const PlainSource&) = delete;
  ~PlainSource() override { close(fd_); }

  absl::StatusOr<size_t> Read(char* to, size_t bytes) override {
    ssize_t got;
    do got = read(fd_, to, bytes);
    while (got < 0 && errno == EINTR);
    if (got < 0) {
      return absl::ErrnoToStatus(errno, absl::StrCat(path_, ": cannot read at byte ", file_bytes_));
    }
    file_bytes_ += got;
    return static_cast<size_t>(got);
  }
  int64_t file_bytes() const override { return file_bytes_; }

 private:
  const std::string path_;
  const int fd_;
  int64_t file_bytes_ = 0;
};

// One call of a library that unpacks: what it took and made.
struct Step {
  size_t taken = 0;
  size_t made = 0;
  bool is_whole = false;         // a member ends here
  const char* damage = nullptr;  // what is wrong with the data
};

class Unpacker {
 public:
  virtual ~Unpacker() = default;
  virtual Step Run(const char* packed, size_t packed_bytes, char* to, size_t bytes) = 0;
};

class GzipUnpacker : public Unpacker {
 public:
  GzipUnpacker() { is_ready_ = inflateInit2(&stream_, kGzip) == Z_OK; }
  ~GzipUnpacker() override { inflateEnd(&stream_); }

  Step Run(const char* packed, size_t packed_bytes, char* to, size_t bytes) override {
    if (!is_ready_) return {.damage = "no memory to unpack"};
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed));
    stream_.avail_in = static_cast<uInt>(packed_bytes);
    stream_.next_out = reinterpret_cast<Bytef*>(to);
    stream_.avail_out = static_cast<uInt>(std::min<size_t>(bytes, UINT_MAX));
    const uInt room = stream_.avail_out;
    const int code = inflate(&stream_, Z_NO_FLUSH);
    Step step{packed_bytes - stream_.avail_in, room - stream_.avail_out, code == Z_STREAM_END};
    if (step.is_whole) inflateReset(&stream_);
    if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR) {
      step.damage = stream_.msg != nullptr ? stream_.msg : zError(code);
    }
    return step;
  }

 private:
  static constexpr int kGzip = 16 + MAX_WBITS;
  z_stream stream_{};
  bool is_ready_;
};

class ZstdUnpacker : public Unpacker {
 public:
  ZstdUnpacker() : stream_(ZSTD_createDStream()) {
    // Of files packed with --long as well.
    ZSTD_DCtx_setParameter(stream_, ZSTD_d_windowLogMax,
                           ZSTD_dParam_getBounds(ZSTD_d_windowLogMax).upperBound);
  }
  ZstdUnpacker(const ZstdUnpacker&) = delete;
  ZstdUnpacker& operator=(const ZstdUnpacker&) = delete;
  ~ZstdUnpacker() override { ZSTD_freeDStream(stream_); }

  Step Run(const char* packed, size_t packed_bytes, char* to, size_t bytes) override {
    ZSTD_inBuffer in{packed, packed_bytes, 0};
    ZSTD_outBuffer out{to, bytes, 0};
    const size_t code = ZSTD_decompressStream(stream_, &out, &in);
    const bool is_damaged = ZSTD_isError(code) != 0;
    return {in.pos, out.pos, code == 0, is_damaged ? ZSTD_getErrorName(code) : nullptr};
  }

 private:
  ZSTD_DStream* stream_;
};

class PackedSource : public TextSource {
 public:
  PackedSource(std::string path, int fd, std::unique_ptr<Unpacker> unpacker)
      : path_(path), file_(std::move(path), fd), unpacker_(std::move(unpacker)) {}

  absl::StatusOr<size_t> Read(char* to, size_t bytes) override {
    while (true) {
      if (begin_ == end_) {
        ASSIGN_OR_RETURN(end_, file_.Read(packed_.data(), packed_.size()));
        begin_ = 0;
        if (end_ == 0 && is_whole_) return 0;
      }
      const Step step = unpacker_->Run(packed_.data() + begin_, end_ - begin_, to, bytes);
      const int64_t at = file_.file_bytes() - static_cast<int64_t>(end_ - begin_);
      if (step.damage != nullptr) return Damaged(at, step.damage);
      if (end_ == 0 && step.made == 0 && !step.is_whole) return Damaged(at, "cut short");
      begin_ += step.taken;
      is_whole_ = step.is_whole;
      if (step.made > 0) return step.made;
    }
  }
  int64_t file_bytes() const override { return file_.file_bytes(); }

 private:
  absl::Status Damaged(int64_t at, const char* what) const {
    return absl::DataLossError(absl::StrCat(path_, ": ", what, " at byte ", at, "; expected whole ",
                                            TextSource::PackingOf(path_), " data"));
  }

  const std::string path_;
  PlainSource file_;
  std::unique_ptr<Unpacker> unpacker_;
  std::string packed_ = std::string(kPackedBytes, '\0');
  size_t begin_ = 0, end_ = 0;  // of packed bytes that wait
  bool is_whole_ = false;       // the last member read; an empty file has none
};

}  // namespace

std::string TextSource::PackingOf(const std::string& path) {
  for (const char* packing : {"gz", "zst"}) {
    if (absl::EndsWith(path, absl::StrCat(".", packing))) return packing;
  }
  return "";
}

absl::StatusOr<std::unique_ptr<TextSource>> TextSource::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot open"));
  posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  const std::string packing = PackingOf(path);
  if (packing.empty()) return std::make_unique<PlainSource>(path, fd);
  std::unique_ptr<Unpacker> unpacker;
  if (packing == "gz") unpacker = std::make_unique<GzipUnpacker>();
  if (packing == "zst") unpacker = std::make_unique<ZstdUnpacker>();
  return std::make_unique<PackedSource>(path, fd, std::move(unpacker));
}

}  // namespace unipool
