// How ranks on GPUs talk: over NCCL where each has a GPU of its own and the library is there, else
// through the host's memory.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "comm/communicator.h"
#include "comm/nccl_communicator.h"
#include "comm/rendezvous.h"

namespace unipool {

struct GpuRanks {
  std::unique_ptr<NcclSession> session;  // null where they talk through the host; outlives `ranks`
  std::unique_ptr<Communicator> ranks;
  int ranks_on_host = 1;
  int ranks_on_gpu = 1;
};

// Over the ranks of `host`, which is taken over and carries tensors of the host. Falls back, with a
// warning on rank 0, where NCCL cannot be used; a single rank needs none. Collective.
absl::StatusOr<GpuRanks> MakeGpuRanks(std::unique_ptr<Communicator> host,
                                      const NcclSession::Options& options);
// Over the ranks of a rendezvous, where only NCCL can carry anything: FAILED_PRECONDITION, alike on
// all ranks, where it cannot. Collective.
absl::StatusOr<GpuRanks> MakeGpuRanks(Rendezvous& rendezvous, const NcclSession::Options& options);

// Every rank's text, by rank, on all ranks. Collective.
std::vector<std::string> GatherTexts(Communicator& ranks, const std::string& mine);

}  // namespace unipool
