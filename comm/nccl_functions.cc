#include "comm/nccl_functions.h"

#include "absl/strings/str_cat.h"
#include "comm/nccl_library.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// ncclCommSplit came with it.
constexpr int kOldestVersion = NCCL_VERSION(2, 18, 0);

}  // namespace

absl::StatusOr<NcclFunctions> LoadNcclFunctions() {
  ASSIGN_OR_RETURN(const NcclLibrary library, NcclLibrary::Open());
  NcclFunctions functions;
  const char* missing = nullptr;
#define UNIPOOL_FIND(name)                                                              \
  functions.name = reinterpret_cast<decltype(&nccl##name)>(library.Find("nccl" #name)); \
  if (functions.name == nullptr && missing == nullptr) missing = "nccl" #name;
  UNIPOOL_NCCL_FUNCTIONS(UNIPOOL_FIND)
#undef UNIPOOL_FIND
  int version = 0;
  if (functions.GetVersion != nullptr) functions.GetVersion(&version);
  if (version < kOldestVersion || missing != nullptr) {
    return absl::UnavailableError(absl::StrCat(
        library.name(), " is NCCL ", version / 10000, ".", version / 100 % 100, ".", version % 100,
        missing != nullptr ? absl::StrCat(", without ", missing) : "", "; expected at least 2.18"));
  }
  return functions;
}

}  // namespace unipool
