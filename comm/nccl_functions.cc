#include "comm/nccl_functions.h"

#include "absl/strings/str_cat.h"
#include "comm/nccl_library.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// The first version with ncclCommSplit.
constexpr int kMinVersion = NCCL_VERSION(2, 18, 0);

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
  if (version < kMinVersion || missing != nullptr) {
    return absl::UnavailableError(
        absl::StrCat(library.name(), " is NCCL ", version / 10000, ".", version / 100 % 100, ".",
                     version % 100, missing != nullptr ? absl::StrCat(" without ", missing) : "",
                     "; install 2.18 or later, or set UNIPOOL_NCCL to such a libnccl.so.2"));
  }
  return functions;
}

}  // namespace unipool
