// A whole file mapped read-only into memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace unipool {

// Owns the mapping; data() is valid as long as this object. Touching a page that was lost (another
// process truncated the file, or a disk failed) raises SIGBUS; replace data files by rename, never
// modify them in place.
class MappedFile {
 public:
  // Errors name the path: the errno of open or mmap, or INVALID_ARGUMENT for anything but a regular
  // file. An empty file has data() == nullptr.
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  // Installs a SIGBUS handler: touching a lost page of any MappedFile exits the process with
  // `status` after one line on stderr that names the file and the byte. Called by main.
  static void ExitOnLostPage(int status);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // Hints to the kernel: fetch these bytes now; expect reads at random positions.
  void WillNeed(int64_t begin, int64_t bytes) const;
  void ExpectRandomReads() const;
  // Releases the pages that were read, which count as memory of the process; a later read fetches
  // them again.
  void ReleasePages() const;
  // Call once per read at a random position. Every kReadsKept calls release the pages, so that
  // files of any size take little memory, even if one read maps the 2 MiB around it. Any thread may
  // call.
  void CountRead() const;
  static constexpr int64_t kReadsKept = 8;

 private:
  MappedFile(const uint8_t* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  void Release();

  const uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
  mutable std::atomic<int64_t> reads_ = 0;
};

}  // namespace unipool
