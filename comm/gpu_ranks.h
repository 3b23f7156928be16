// Chooses how ranks with GPUs communicate: over NCCL if each rank has its own GPU and the library
// is found on all of them, else through host memory.
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
  std::unique_ptr<NcclSession> session;  // null if NCCL is not used; must outlive `ranks`
  std::unique_ptr<Communicator> ranks;   // the world; takes tensors of the GPU and of the host
  int ranks_on_host = 1;                 // number of ranks on this rank's host
  int ranks_on_gpu = 1;                  // number of ranks that share this rank's GPU
};

// Takes ownership of `host`, a communicator of host tensors over the same ranks. If NCCL cannot be
// used, falls back to staging through host memory, with a warning on rank 0. A single rank uses
// neither NCCL nor a transport. Collective. RESOURCE_EXHAUSTED without pinned memory; INTERNAL or
// DEADLINE_EXCEEDED if NCCL fails to connect the ranks.
absl::StatusOr<GpuRanks> MakeGpuRanks(std::unique_ptr<Communicator> host,
                                      const NcclSession::Options& options);
// Over the ranks of a rendezvous, which have no transport but NCCL. Collective.
// FAILED_PRECONDITION, with the same message on all ranks, if NCCL cannot be used; errors of
// Rendezvous::Gather and of NCCL otherwise.
absl::StatusOr<GpuRanks> MakeGpuRanks(Rendezvous& rendezvous, const NcclSession::Options& options);

// Returns the text of every rank, by rank, on all ranks. Collective.
std::vector<std::string> GatherTexts(Communicator& ranks, const std::string& mine);

}  // namespace unipool
