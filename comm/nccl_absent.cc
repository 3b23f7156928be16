// Implements comm/nccl_communicator.h in builds without NCCL.
#include "comm/nccl_communicator.h"

namespace unipool {

LibraryVersion NcclVersion() { return {}; }

absl::StatusOr<std::unique_ptr<NcclSession>> NcclSession::Create(Options /*options*/) {
  return absl::UnavailableError(
      "this build has no NCCL; install nccl.h and build again with -DUNIPOOL_WITH_NCCL=ON");
}

}  // namespace unipool
