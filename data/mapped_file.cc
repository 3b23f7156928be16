#include "data/mapped_file.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "runtime/files.h"

namespace unipool {
namespace {

// A mapped file as the signal handler sees it. Never freed, because a process maps few files.
struct OpenMapping {
  const std::string path;
  const int64_t bytes;
  std::atomic<const uint8_t*> data;  // null after the file is unmapped
  OpenMapping* const next;
};
std::atomic<OpenMapping*> g_mappings = nullptr;

void RegisterMapping(const std::string& path, const uint8_t* data, int64_t bytes) {
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  g_mappings = new OpenMapping{path, bytes, data, g_mappings};
}

void UnregisterMapping(const uint8_t* data) {
  for (OpenMapping* mapping = g_mappings; mapping != nullptr; mapping = mapping->next) {
    if (mapping->data == data) mapping->data = nullptr;
  }
}

// Safe in a signal handler: no allocation and no lock.
void WriteToStderr(const char* text, size_t bytes) {
  if (write(STDERR_FILENO, text, bytes) < 0) return;
}

std::atomic<int> g_lost_page_status = 0;

void OnLostPage(int signal_number, siginfo_t* info, void*) {
  const auto* const at = static_cast<const uint8_t*>(info->si_addr);
  for (const OpenMapping* mapping = g_mappings; mapping != nullptr; mapping = mapping->next) {
    const uint8_t* const data = mapping->data;
    if (data == nullptr || at < data || at >= data + mapping->bytes) continue;
    char line[PATH_MAX + 200];
    const int length =
        snprintf(line, sizeof(line),
                 "unipool: %s: cannot read byte %lld: the file was truncated, or its disk "
                 "failed, while it was in use; restore the file and start again\n",
                 mapping->path.c_str(), static_cast<long long>(at - data));
    WriteToStderr(line, std::min(static_cast<size_t>(length), sizeof(line) - 1));
    _exit(g_lost_page_status);
  }
  signal(signal_number, SIG_DFL);  // not a mapped file: the default action ends the process
}

}  // namespace

void MappedFile::ExitOnLostPage(int status) {
  g_lost_page_status = status;
  struct sigaction action = {};
  action.sa_sigaction = &OnLostPage;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGBUS, &action, nullptr);
}

absl::StatusOr<MappedFile> MappedFile::Open(const std::string& path) {
  // Without O_NONBLOCK, opening a pipe waits for a writer.
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return SystemError(errno, absl::StrCat(path, ": cannot open"));
  struct stat info = {};
  if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  const int64_t bytes = info.st_size;
  // mmap refuses 0 bytes; an empty file is an empty array.
  void* data = bytes == 0 ? nullptr : mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, /*offset=*/0);
  const int mmap_errno = errno;
  close(fd);
  if (data == MAP_FAILED) {
    return SystemError(mmap_errno, absl::StrCat(path, ": cannot map ", bytes, " bytes"));
  }
  if (bytes > 0) RegisterMapping(path, static_cast<const uint8_t*>(data), bytes);
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
  if (data_ == nullptr) return;
  UnregisterMapping(data_);
  munmap(const_cast<uint8_t*>(data_), bytes_);
}

void MappedFile::WillNeed(int64_t begin, int64_t bytes) const {
  const int64_t page = sysconf(_SC_PAGESIZE);
  const int64_t first = begin / page * page;
  // Only advice: if the kernel refuses it, pages are read when they are touched.
  madvise(const_cast<uint8_t*>(data_) + first, begin + bytes - first, MADV_WILLNEED);
}

void MappedFile::ReleasePages() const {
  if (data_ != nullptr) madvise(const_cast<uint8_t*>(data_), bytes_, MADV_DONTNEED);
}

void MappedFile::CountRead() const {
  if (reads_.fetch_add(1, std::memory_order_relaxed) % kReadsKept == kReadsKept - 1) ReleasePages();
}

void MappedFile::ExpectRandomReads() const {
  if (data_ == nullptr) return;
  madvise(const_cast<uint8_t*>(data_), bytes_, MADV_RANDOM);
  madvise(const_cast<uint8_t*>(data_), bytes_, MADV_NOHUGEPAGE);
}

}  // namespace unipool
