// Runs a function on n threads, each a rank over NCCL with a GPU of its own: NCCL itself, or where
// the GPUs are emulated the one of tests/support/fake_nccl.
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

// Why not here, or nothing.
const char* WhyNoNcclRanks(int ranks);
void OnNcclRanks(int ranks, HostTensors host_tensors, const std::function<void(NcclRank)>& body);
// A session of this thread's rank on `gpu`.
absl::StatusOr<std::unique_ptr<NcclSession>> NewNcclSession(Device gpu, absl::Duration deadline,
                                                            CallLog* log);

}  // namespace unipool::testing
