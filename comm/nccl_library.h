// libnccl, opened at run time.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace unipool {

// Opened once and kept to the end of the process.
class NcclLibrary {
 public:
  // The file that UNIPOOL_NCCL names, else libnccl.so.2 where the loader finds it, else in
  // /usr/local/cuda/lib64. UNAVAILABLE, saying what was tried.
  static absl::StatusOr<NcclLibrary> Open();

  const std::string& name() const { return name_; }
  // Null where the library has no such function.
  void* Find(const char* function) const;

 private:
  NcclLibrary(std::string name, void* handle);

  std::string name_;
  void* handle_;
};

}  // namespace unipool
