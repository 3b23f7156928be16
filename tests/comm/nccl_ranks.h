// Runs a function on n threads, each a rank over NCCL with its own GPU. With emulated GPUs, NCCL is
// tests/support/fake_nccl.
#pragma once

#include <functional>
#include <memory>

#include "comm/nccl_communicator.h"

namespace unipool::testing {

enum class HostTensors : uint8_t { kOverHost, kOverGpu };

struct NcclRank {
  std::unique_ptr<NcclSession> session;
  std::unique_ptr<Communicator> comm;
  Device gpu;
  CallLog& log;
};

// Returns why `ranks` ranks over NCCL cannot run on this machine, or "".
const char* WhyNoNcclRanks(int ranks);
// Runs `body` on each rank; host tensors are transferred as `host_tensors` says.
void OnNcclRanks(int ranks, HostTensors host_tensors, const std::function<void(NcclRank)>& body);
// Creates a session for a rank on `gpu`, whose world rank is the GPU's index.
absl::StatusOr<std::unique_ptr<NcclSession>> NewNcclSession(Device gpu, absl::Duration deadline,
                                                            CallLog* log);

}  // namespace unipool::testing
