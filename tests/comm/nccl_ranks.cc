#include "tests/comm/nccl_ranks.h"

#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "comm/two_memories_communicator.h"
#include "runtime/gpu.h"
#include "tests/support/gpu.h"
#include "tests/support/on_ranks.h"

namespace unipool::testing {
namespace {

// Before anything asks: of the program's environment.
const bool prepared = [] {
  setenv("UNIPOOL_NCCL", UNIPOOL_NCCL_FOR_TESTS, 0);
  return setenv("UNIPOOL_EMULATED_GPUS", "8", 0) == 0;
}();

std::string FromFirst(Communicator& comm, std::string text) {
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
      {.gpu = gpu, .world_rank = gpu.index, .deadline = deadline, .log = log, .on_lost = nullptr});
}

void OnNcclRanks(int ranks, HostTensors host_tensors, const std::function<void(NcclRank)>& body) {
  OnRanksOwned(ranks, [&](std::unique_ptr<Communicator> host) {
    const int rank = host->rank();
    const Device gpu{DeviceType::kCuda, rank};
    CallLog log;
    auto session = NewNcclSession(gpu, absl::Seconds(30), &log).value();
    const std::string id = FromFirst(*host, rank == 0 ? session->NewId().value() : "");
    if (host_tensors == HostTensors::kOverGpu) host = nullptr;
    auto comm = CreateTwoMemoriesCommunicator(session->CreateWorld(id, rank, ranks).value(),
                                              std::move(host), gpu);
    body(NcclRank{std::move(session), std::move(comm), gpu, log});
  });
}

}  // namespace unipool::testing
