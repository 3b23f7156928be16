#include "tests/comm/nccl_ranks.h"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "comm/mixed_device_communicator.h"
#include "runtime/gpu.h"
#include "tests/support/gpu.h"
#include "tests/support/on_ranks.h"

namespace unipool::testing {
namespace {

// Sets the environment before the first use of NCCL or of an emulated GPU.
const bool prepared = [] {
  setenv("UNIPOOL_NCCL", UNIPOOL_NCCL_FOR_TESTS, 0);
  return setenv("UNIPOOL_EMULATED_GPUS", "8", 0) == 0;
}();

// Returns the text of rank 0, of 128 bytes.
std::string BroadcastId(Communicator& comm, std::string text) {
  std::vector<int64_t> words(128 / sizeof(int64_t));
  text.copy(reinterpret_cast<char*>(words.data()), 128);
  const auto stream = Stream::Create(Device{});
  comm.Broadcast(Tensor::Of(words.data(), {static_cast<int64_t>(words.size())}), 0, *stream);
  return {reinterpret_cast<const char*>(words.data()), 128};
}

}  // namespace

const char* WhyNoNcclRanks(int ranks) {
  const char* const why = WhyNoGpu();
  if (*why != '\0') return why;
  return prepared && NumGpus() >= ranks ? "" : "too few GPUs";
}

absl::StatusOr<std::unique_ptr<NcclSession>> NewNcclSession(Device gpu, absl::Duration deadline,
                                                            CallLog* log) {
  return NcclSession::Create(
      {.gpu = gpu, .world_rank = gpu.index, .deadline = deadline, .log = log, .on_error = nullptr});
}

void OnNcclRanks(int ranks, HostTensors host_tensors, const std::function<void(NcclRank)>& body) {
  OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> host) {
    const int rank = host->rank();
    const Device gpu{DeviceType::kCuda, rank};
    CallLog log;
    auto session = NewNcclSession(gpu, absl::Seconds(30), &log).value();
    const std::string id = BroadcastId(*host, rank == 0 ? session->NewId().value() : "");
    if (host_tensors == HostTensors::kOverGpu) host = nullptr;
    auto comm = CreateMixedDeviceCommunicator(session->CreateWorld(id, rank, ranks).value(),
                                              std::move(host), gpu);
    body(NcclRank{std::move(session), std::move(comm), gpu, log});
  });
}

}  // namespace unipool::testing
