// libnccl, opened at run time.
#pragma once

#include <string>

#include "absl/status/statusor.h"

namespace unipool {

// A handle of the library, which stays open until the process ends. Copies share it.
class NcclLibrary {
 public:
  // Opens the file that the environment variable UNIPOOL_NCCL names; if it is unset, libnccl.so.2
  // on the loader's path, then in /usr/local/cuda/lib64. UNAVAILABLE, with the loader's error.
  static absl::StatusOr<NcclLibrary> Open();

  const std::string& name() const { return name_; }
  // Returns null if the library has no such function.
  void* Find(const char* function) const;

 private:
  NcclLibrary(std::string name, void* handle);

  std::string name_;
  void* handle_;
};

}  // namespace unipool
