// What the fuzz targets share. A target is one function over bytes that must neither crash nor
// break its promises (Require). Under clang's libFuzzer it is driven by new inputs; in the ordinary
// build replay_main.cc runs it over the checked-in corpus.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

// libFuzzer's name for the function.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace unipool::testing {

inline void Require(bool holds, const char* claim) {
  if (holds) return;
  std::fprintf(stderr, "broken: %s\n", claim);
  std::abort();
}

// An error is one line of text.
inline void RequireOneLine(const std::string& message) {
  Require(!message.empty(), "an error has a message");
  Require(message.find('\n') == std::string::npos, "an error is one line");
}

// A file in memory under a path of its own, with the content given last.
class FuzzFile {
 public:
  explicit FuzzFile(const std::string& suffix);
  ~FuzzFile();
  FuzzFile(const FuzzFile&) = delete;
  FuzzFile& operator=(const FuzzFile&) = delete;

  void Fill(const void* bytes, size_t size) const;
  const std::string& path() const { return path_; }
  // The path without the suffix.
  std::string Stem() const { return path_.substr(0, path_.size() - suffix_bytes_); }

 private:
  std::string path_;
  size_t suffix_bytes_;
};

}  // namespace unipool::testing
