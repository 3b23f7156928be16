#include "data/index_cache.h"

#include <fcntl.h>
#include <glog/logging.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "runtime/files.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr char kMagic[] = "UNIORDR";  // eight bytes including the terminating zero
constexpr uint64_t kVersion = 1;
constexpr auto kPoll = std::chrono::milliseconds(50);
// Longer than any build takes; a process that waited this long builds the arrays itself.
constexpr auto kMaxWait = std::chrono::minutes(30);

struct Header {
  char magic[sizeof(kMagic)];
  uint64_t version;
  uint64_t key_bytes;
  uint64_t payload_bytes;
  uint64_t hash_low, hash_high;  // XXH3-128 of the payload
};

int64_t PayloadAt(uint64_t key_bytes) {
  return static_cast<int64_t>(sizeof(Header) + (key_bytes + 7) / 8 * 8);
}

// NOT_FOUND if there is no file, DATA_LOSS if it is damaged or was written for another key.
absl::StatusOr<CachedBytes> Load(const std::string& path, const std::string& key) {
  ASSIGN_OR_RETURN(MappedFile file, MappedFile::Open(path));
  const auto damaged = [&](absl::string_view what) {
    return absl::DataLossError(absl::StrCat(path, ": ", what, "; building it again"));
  };
  Header header;
  if (file.bytes() < static_cast<int64_t>(sizeof(header)))
    return damaged("shorter than its header");
  std::memcpy(&header, file.data(), sizeof(header));
  if (std::memcmp(header.magic, kMagic, sizeof(kMagic)) != 0 || header.version != kVersion) {
    return damaged("not an order file of version 1");
  }
  const auto bytes = static_cast<uint64_t>(file.bytes());
  if (header.key_bytes != key.size() || header.payload_bytes > bytes ||
      PayloadAt(header.key_bytes) + static_cast<int64_t>(header.payload_bytes) != file.bytes()) {
    return damaged(absl::StrCat(bytes, " bytes do not match the sizes in its header"));
  }
  if (std::memcmp(file.data() + sizeof(header), key.data(), key.size()) != 0) {
    return damaged("written for other data or settings");
  }
  const int64_t begin = PayloadAt(header.key_bytes);
  const XXH128_hash_t hash = XXH3_128bits(file.data() + begin, header.payload_bytes);
  if (hash.low64 != header.hash_low || hash.high64 != header.hash_high) {
    return damaged("its content does not match the hash in its header");
  }
  file.ExpectRandomReads();
  file.ReleasePages();
  return CachedBytes(std::move(file), begin);
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&&) = delete;
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

absl::Status WriteAll(int fd, const void* data, size_t bytes) {
  const auto* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t written = write(fd, from, bytes);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return SystemError(written == 0 ? ENOSPC : errno, "cannot write");
    from += written;
    bytes -= static_cast<size_t>(written);
  }
  return absl::OkStatus();
}

absl::Status WriteTo(int fd, const std::string& key, const std::vector<uint8_t>& payload) {
  const XXH128_hash_t hash = XXH3_128bits(payload.data(), payload.size());
  Header header{.magic = {},
                .version = kVersion,
                .key_bytes = key.size(),
                .payload_bytes = payload.size(),
                .hash_low = hash.low64,
                .hash_high = hash.high64};
  std::memcpy(header.magic, kMagic, sizeof(kMagic));
  std::string padded = key;
  padded.resize(PayloadAt(key.size()) - sizeof(header));
  RETURN_IF_ERROR(WriteAll(fd, &header, sizeof(header)));
  RETURN_IF_ERROR(WriteAll(fd, padded.data(), padded.size()));
  RETURN_IF_ERROR(WriteAll(fd, payload.data(), payload.size()));
  return fsync(fd) == 0 ? absl::OkStatus() : SystemError(errno, "cannot sync");
}

// Writes `partial` and renames it to `path`, so that a reader never sees an incomplete file.
absl::Status Write(const std::string& path, const std::string& partial, const std::string& key,
                   const std::vector<uint8_t>& payload) {
  const FileDescriptor file(open(partial.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (file.get() < 0) return SystemError(errno, "cannot open");
  absl::Status status = WriteTo(file.get(), key, payload);
  if (status.ok() && rename(partial.c_str(), path.c_str()) != 0) {
    status = SystemError(errno, "cannot rename");
  }
  if (!status.ok()) unlink(partial.c_str());
  return status;
}

// True if `path` still names the open file `fd`.
bool NamesOpenFile(const std::string& path, int fd) {
  struct stat open_file = {}, named = {};
  return fstat(fd, &open_file) == 0 && stat(path.c_str(), &named) == 0 &&
         open_file.st_ino == named.st_ino && open_file.st_dev == named.st_dev;
}

// An exclusive flock on a lock file, held by the process that builds. The kernel releases it when
// the holder dies. The holder removes the file when it releases the lock; a lock acquired on a
// removed file excludes nobody, so Acquire opens the new file and tries again.
class BuildLock {
 public:
  static absl::StatusOr<BuildLock> Acquire(const std::string& path) {
    const auto start = std::chrono::steady_clock::now();
    while (true) {
      FileDescriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
      if (file.get() < 0) return SystemError(errno, absl::StrCat(path, ": cannot open"));
      if (flock(file.get(), LOCK_EX | LOCK_NB) != 0) {
        const int error = errno;
        if (error != EWOULDBLOCK && error != EINTR) {
          return SystemError(error, absl::StrCat(path, ": cannot lock"));
        }
        if (std::chrono::steady_clock::now() - start > kMaxWait) {
          return absl::DeadlineExceededError(
              absl::StrCat(path, ": another process held the lock for more than 30 minutes"));
        }
        std::this_thread::sleep_for(kPoll);
      } else if (NamesOpenFile(path, file.get())) {
        return BuildLock(path, std::move(file));
      }
    }
  }
  BuildLock(BuildLock&&) = default;
  BuildLock& operator=(BuildLock&&) = delete;
  ~BuildLock() {
    if (file_.get() >= 0) unlink(path_.c_str());
  }

 private:
  BuildLock(std::string path, FileDescriptor file)
      : path_(std::move(path)), file_(std::move(file)) {}

  std::string path_;
  FileDescriptor file_;
};

absl::StatusOr<CachedBytes> BuildAndStore(const std::string& path, const std::string& partial,
                                          const std::string& key, const BuildBytes& build) {
  ASSIGN_OR_RETURN(std::vector<uint8_t> payload, build());
  absl::Status stored = Write(path, partial, key, payload);
  if (stored.ok()) {
    absl::StatusOr<CachedBytes> mapped = Load(path, key);
    if (mapped.ok()) return mapped;
    stored = mapped.status();
  }
  LOG_FIRST_N(WARNING, 1)
      << path << ": " << stored.message()
      << "; each process computes the order of the data and keeps it in memory; "
         "set data.cache_folder to a writable folder to share it";
  return CachedBytes(std::move(payload));
}

}  // namespace

const uint8_t* CachedBytes::data() const {
  return is_mapped() ? file_.data() + begin_ : built_.data();
}

int64_t CachedBytes::bytes() const {
  return is_mapped() ? file_.bytes() - begin_ : static_cast<int64_t>(built_.size());
}

std::string CachePath(const CacheEntry& entry) {
  std::string prefix = entry.prefix;
  if (!entry.folder.empty()) {
    prefix = absl::StrCat(entry.folder, "/", prefix.substr(prefix.rfind('/') + 1));
  }
  const uint64_t hash = XXH3_64bits(entry.key.data(), entry.key.size());
  return absl::StrCat(prefix, "-", absl::Hex(hash, absl::kZeroPad16), ".order");
}

absl::StatusOr<CachedBytes> LoadOrBuild(const CacheEntry& entry, const BuildBytes& build) {
  const std::string path = CachePath(entry);
  if (!entry.folder.empty())
    mkdir(entry.folder.c_str(), 0755);  // an error shows when the file is opened
  absl::StatusOr<CachedBytes> found = Load(path, entry.key);
  if (found.ok()) return found;
  const absl::StatusOr<BuildLock> lock = BuildLock::Acquire(path + ".lock");
  VLOG_IF(1, !lock.ok()) << lock.status().message();
  found = Load(path, entry.key);  // another process may have built it meanwhile
  if (found.ok()) return found;
  LOG_IF(WARNING, absl::IsDataLoss(found.status())) << found.status().message();
  // The next holder of the lock overwrites the partial file of a killed one. On file systems
  // without locks two processes may write at the same time, so each uses a name of its own.
  const std::string partial =
      lock.ok() ? path + ".partial" : absl::StrCat(path, ".", getpid(), ".partial");
  return BuildAndStore(path, partial, entry.key, build);
}

}  // namespace unipool
