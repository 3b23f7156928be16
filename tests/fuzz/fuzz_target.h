// Shared by the fuzz targets. A target is one function of bytes that must not crash, and checks its
// claims with Require. Under clang's libFuzzer it gets generated inputs; in the ordinary build
// replay_main.cc runs it over the checked-in corpus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

// The target; the name is given by libFuzzer.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace unipool::testing {

// Aborts with the claim on standard error unless it holds.
inline void Require(bool holds, const char* claim) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", claim);
  std::abort();
}

// Requires that an error message is one line of text.
inline void RequireOneLine(const std::string& message) {
  Require(!message.empty(), "an error has a message");
  Require(message.find('\n') == std::string::npos, "an error is one line");
}

// Requires that an error message is one line that quotes little of its input.
inline void RequireShortLine(const std::string& message) {
  RequireOneLine(message);
  Require(message.size() <= 300, "an error quotes at most 80 bytes of its input");
}

// A file in memory (/dev/shm) with a path unique to the process; removed by the destructor.
class FuzzFile {
 public:
  explicit FuzzFile(const std::string& suffix);
  ~FuzzFile();
  FuzzFile(const FuzzFile&) = delete;
  FuzzFile& operator=(const FuzzFile&) = delete;

  // Replaces the content.
  void Fill(const void* bytes, size_t size) const;
  const std::string& path() const { return path_; }
  // The path without the suffix.
  std::string Stem() const { return path_.substr(0, path_.size() - suffix_bytes_); }

 private:
  std::string path_;
  size_t suffix_bytes_;
};

}  // namespace unipool::testing
