// The functions of libnccl, loaded at run time. For nccl_communicator.cc only.
#pragma once

#include <nccl.h>

#include "absl/status/statusor.h"
#include "runtime/check_cuda.h"

namespace unipool {

#define UNIPOOL_NCCL_FUNCTIONS(DO) \
  DO(GetVersion)                   \
  DO(GetUniqueId)                  \
  DO(GetErrorString)               \
  DO(GetLastError)                 \
  DO(CommInitRankConfig)           \
  DO(CommSplit)                    \
  DO(CommFinalize)                 \
  DO(CommDestroy)                  \
  DO(CommAbort)                    \
  DO(CommGetAsyncError)            \
  DO(AllReduce)                    \
  DO(ReduceScatter)                \
  DO(AllGather) DO(Broadcast) DO(Send) DO(Recv) DO(GroupStart) DO(GroupEnd)

struct NcclFunctions {
#define UNIPOOL_DECLARE(name) decltype(&nccl##name) name = nullptr;
  UNIPOOL_NCCL_FUNCTIONS(UNIPOOL_DECLARE)
#undef UNIPOOL_DECLARE
};

// UNAVAILABLE if the library is missing, incomplete or older than 2.18.
absl::StatusOr<NcclFunctions> LoadNcclFunctions();

// Returns false for success and for calls that are still in progress.
inline bool IsError(ncclResult_t result) {
  return result != ncclSuccess && result != ncclInProgress;
}

#define NCCL_CHECK(functions, expression)                                                      \
  do {                                                                                         \
    const ncclResult_t nccl_check_result = (expression);                                       \
    if (IsError(nccl_check_result)) {                                                          \
      GpuFail(#expression, __FILE__, __LINE__, (functions).GetErrorString(nccl_check_result)); \
    }                                                                                          \
  } while (false)

}  // namespace unipool
