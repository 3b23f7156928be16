#include "comm/nccl_library.h"

#include <dlfcn.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace unipool {

NcclLibrary::NcclLibrary(std::string name, void* handle)
    : name_(std::move(name)), handle_(handle) {}

absl::StatusOr<NcclLibrary> NcclLibrary::Open() {
  std::vector<std::string> names = {"libnccl.so.2", "/usr/local/cuda/lib64/libnccl.so.2"};
  const char* const named = std::getenv("UNIPOOL_NCCL");
  if (named != nullptr) names = {named};
  std::string first_error;
  for (const std::string& name : names) {
    void* const handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) return NcclLibrary(name, handle);
    if (first_error.empty()) first_error = dlerror();
  }
  return absl::UnavailableError(absl::StrCat(
      "NCCL was not found (", first_error, "); ",
      named != nullptr ? "set UNIPOOL_NCCL to the path of libnccl.so.2, or unset it"
                       : "install NCCL 2.18 or later, or set UNIPOOL_NCCL to the path of "
                         "libnccl.so.2"));
}

void* NcclLibrary::Find(const char* function) const { return dlsym(handle_, function); }

}  // namespace unipool
