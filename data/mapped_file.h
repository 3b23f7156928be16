// A whole file mapped read-only into memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace unipool {

// Owns the mapping. A page that is lost (another process shortens the file, a disk fails) raises
// SIGBUS when it is touched: datasets are replaced by rename, never written in place.
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  // From here on such a page ends the process with one line on stderr, which names the file and the
  // byte, and with `status`. For main.
  static void EndOnLostPage(int status);

  MappedFile() = default;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  const uint8_t* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  // The bytes are about to be read (the kernel fetches them now), or will be read here and there.
  void WillNeed(int64_t begin, int64_t bytes) const;
  void ExpectRandomReads() const;
  // Gives the pages back; the next reads bring them again. What a process has mapped and read
  // counts as its memory until the kernel takes it away.
  void Forget() const;
  // To be called for each read here or there: forgets after kReadsKept of them, so that files of
  // any size take little memory, even where a read maps the two megabytes around it. Any thread.
  void NoteRead() const;
  static constexpr int64_t kReadsKept = 8;

 private:
  MappedFile(const uint8_t* data, int64_t bytes) : data_(data), bytes_(bytes) {}
  void Release();

  const uint8_t* data_ = nullptr;
  int64_t bytes_ = 0;
  mutable std::atomic<int64_t> reads_ = 0;
};

}  // namespace unipool
