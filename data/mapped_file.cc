#include "data/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace unipool {

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return absl::ErrnoToStatus(errno, absl::StrCat(path, ": cannot open"));
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  const int64_t bytes = info.st_size;
  // An empty mapping is an error to the kernel and an empty array to us.
  void* data = bytes == 0 ? nullptr : mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, /*offset=*/0);
  const int mmap_errno = errno;
  close(fd);
  if (data == MAP_FAILED) {
    return absl::ErrnoToStatus(mmap_errno, absl::StrCat(path, ": cannot map ", bytes, " bytes"));
  }
  return MappedFile(static_cast<const uint8_t*>(data), bytes);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  if (this == &other) return *this;
  Release();
  data_ = std::exchange(other.data_, nullptr);
  bytes_ = std::exchange(other.bytes_, 0);
  return *this;
}

MappedFile::~MappedFile() { Release(); }

void MappedFile::Release() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), bytes_);
}

void MappedFile::WillNeed(int64_t begin, int64_t bytes) const {
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t first = begin / page * page;
  // Advice only: a kernel that refuses it reads the pages when they are touched.
  madvise(const_cast<uint8_t*>(data_) + first, begin + bytes - first, MADV_WILLNEED);
}

void MappedFile::Forget() const {
  if (data_ != nullptr) madvise(const_cast<uint8_t*>(data_), bytes_, MADV_DONTNEED);
}

void MappedFile::NoteRead() const {
  if (reads_.fetch_add(1, std::memory_order_relaxed) % kReadsKept == kReadsKept - 1) Forget();
}

void MappedFile::ExpectRandomReads() const {
  if (data_ == nullptr) return;
  madvise(const_cast<uint8_t*>(data_), bytes_, MADV_RANDOM);
  madvise(const_cast<uint8_t*>(data_), bytes_, MADV_NOHUGEPAGE);
}

}  // namespace unipool
