#include <unistd.h>

#include "tests/fuzz/fuzz_target.h"

namespace unipool::testing {

FuzzFile::FuzzFile(const std::string& suffix) : suffix_bytes_(suffix.size()) {
  path_ = "/dev/shm/unipool_fuzz_" + std::to_string(getpid()) + suffix;
}

FuzzFile::~FuzzFile() { std::remove(path_.c_str()); }

void FuzzFile::Fill(const void* bytes, size_t size) const {
  std::FILE* file = std::fopen(path_.c_str(), "wb");
  Require(file != nullptr, "/dev/shm can be written to");
  Require(std::fwrite(bytes, 1, size, file) == size, "/dev/shm has room");
  std::fclose(file);
}

}  // namespace unipool::testing
