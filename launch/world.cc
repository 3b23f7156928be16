#include "launch/world.h"

#include <glog/logging.h>
#include <omp.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "comm/gpu_ranks.h"
#include "comm/local_communicator.h"
#include "comm/mpi_communicator.h"
#include "comm/rendezvous.h"
#include "comm/staged_communicator.h"
#include "configs/run.pb.h"
#include "launch/device_choice.h"
#include "launch/exit_codes.h"
#include "launch/signals.h"
#include "runtime/blas.h"
#include "runtime/build_config.h"
#include "runtime/device.h"
#include "runtime/gpu.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Payload of statuses that went through Agree: "here" or "elsewhere".
constexpr char kTeller[] = "unipool/teller";
constexpr char kHere[] = "here";
constexpr char kElsewhere[] = "elsewhere";

absl::Status WithTeller(absl::Status status, const char* teller) {
  status.SetPayload(kTeller, absl::Cord(teller));
  return status;
}

int EnvironmentInt(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  int value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// As World::Agree says.
absl::Status AgreeOver(Communicator& ranks, const absl::Status& mine) {
  // The largest of -1 - rank over failed ranks is that of the lowest one; 0 bits mean all is well.
  int32_t failed = mine.ok() ? -ranks.size() - 1 : -1 - ranks.rank();
  const std::unique_ptr<Stream> stream = Stream::Create(Device{});
  ranks.AllReduce(Tensor::Of(&failed, {1}), ReduceOp::kMax, *stream);
  if (failed == -ranks.size() - 1) return absl::OkStatus();
  const int first_failed = -1 - failed;
  int32_t code = static_cast<int32_t>(mine.code());  // all ranks shall end with the same exit code
  ranks.Broadcast(Tensor::Of(&code, {1}), first_failed, *stream);
  if (first_failed == ranks.rank()) return WithTeller(mine, kHere);
  return WithTeller(absl::Status(static_cast<absl::StatusCode>(code),
                                 absl::StrCat("rank ", first_failed, " reported an error")),
                    kElsewhere);
}

// OpenMP runs our loops and calls OpenBLAS from inside them, one thread each.
void SetThreads(int threads, int ranks_on_host) {
  if (threads == 0) threads = std::max(1, HostCores() / ranks_on_host);
  omp_set_num_threads(threads);
  SetBlasThreads(1);
}

void EndHungJob(const std::string& words) {
  if (!words.empty()) std::cerr << "unipool: " << words << std::endl;
  AbortMpi(kExitHang);
}

void EndHungProcess(const std::string& words) {
  std::cerr << "unipool: " << words << std::endl;
  std::_Exit(kExitHang);
}

// Processes that torchrun or the like started would each take themselves for the whole run.
absl::Status CheckLauncher() {
  if (LaunchedByMpi()) return absl::OkStatus();
  const absl::StatusOr<std::optional<LaunchPlace>> place = LaunchPlaceInEnvironment();
  if (!place.ok()) return WithTeller(place.status(), kHere);
  if (!place->has_value() || (*place)->size == 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("the environment says ", (*place)->size,
                   " ranks, which MPI did not start: ranks on CPUs need "
                   "it; expected launch/mpirun.sh -np ",
                   (*place)->size, ", or srun --mpi=pmix"));
}

// Of a process that is all there is.
class NoMessenger : public Messenger {
 public:
  void SendToAll(const std::string& /*text*/) override {}
  std::optional<Message> Receive() override { return std::nullopt; }
};

}  // namespace

int LaunchRank() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK"}) {
    if (std::getenv(name) != nullptr) return EnvironmentInt(name, 0);
  }
  const absl::StatusOr<std::optional<LaunchPlace>> place = LaunchPlaceInEnvironment();
  return place.ok() && place->has_value() ? (*place)->rank : 0;
}

int RanksOnThisHost() { return LaunchedByMpi() ? MpiLocalRank().size : 1; }

bool TellsOf(const absl::Status& status) {
  const absl::optional<absl::Cord> teller = status.GetPayload(kTeller);
  return teller.has_value() ? *teller == kHere : LaunchRank() == 0;
}

MpiSession::MpiSession() : started_(LaunchedByMpi()) {
  if (started_) InitializeMpi();
}

MpiSession::~MpiSession() {
  if (started_) FinalizeMpi();
}

absl::StatusOr<std::unique_ptr<World>> World::Create(const config::Run& run) {
  RETURN_IF_ERROR(CheckLauncher());
  const absl::Duration deadline = absl::Seconds(run.parallel().deadline_seconds());
  SetThreads(run.parallel().threads(), RanksOnThisHost());
  auto self = std::unique_ptr<World>(new World());
  if (!LaunchedByMpi()) {
    RETURN_IF_ERROR(self->Group(run, std::move(CreateLocalCommunicators(1, deadline)[0]), {0, 1}));
    self->watchdog_ = std::make_unique<Watchdog>(self->log_, std::make_unique<NoMessenger>(),
                                                 Watchdog::Options{.rank = 0,
                                                                   .size = 1,
                                                                   .deadline = deadline,
                                                                   .is_ended = &TerminationNoted,
                                                                   .on_hang = &EndHungProcess});
    return self;
  }
  // The watchdog knows more than the call that waits, so that one has a little more patience.
  const unipool::LocalRank local = MpiLocalRank();
  RETURN_IF_ERROR(self->Group(run, CreateMpiWorld(deadline + absl::Seconds(20), &self->log_),
                              {local.rank, local.size}));
  self->watchdog_ = std::make_unique<Watchdog>(self->log_, CreateMpiMessenger(),
                                               Watchdog::Options{.rank = self->rank(),
                                                                 .size = self->size(),
                                                                 .deadline = deadline,
                                                                 .is_ended = &TerminationNoted,
                                                                 .on_hang = &EndHungJob});
  return self;
}

absl::StatusOr<std::unique_ptr<World>> World::Create(const config::Run& run,
                                                     std::unique_ptr<Communicator> ranks) {
  auto self = std::unique_ptr<World>(new World());
  const LocalRank local{ranks->rank(), ranks->size()};
  RETURN_IF_ERROR(self->Group(run, std::move(ranks), local));
  return self;
}

absl::Status World::TakeDevice(const config::Run& run, Communicator& ranks, LocalRank local) {
  const absl::StatusOr<Device> device = ChooseDevice(run, local.rank);
  RETURN_IF_ERROR(AgreeOver(ranks, device.status()));
  device_ = *device;
  ranks_on_device_ = local.size;
  if constexpr (kWithCuda) {
    if (device_.type == DeviceType::kCuda) {
      const int gpus = NumGpus();
      ranks_on_device_ = (local.size - device_.index + gpus - 1) / gpus;
    }
  }
  const int32_t is_gpu = device_.type == DeviceType::kCuda ? 1 : 0;
  int32_t found[] = {is_gpu, -is_gpu};
  ranks.AllReduce(Tensor::Of(found, {2}), ReduceOp::kMax, *Stream::Create(Device{}));
  if (found[0] == -found[1]) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "parallel.device = AUTO: some ranks have a GPU and some have none: expected CPU or CUDA");
}

absl::Status World::Group(const config::Run& run, std::unique_ptr<Communicator> ranks,
                          LocalRank local) {
  RETURN_IF_ERROR(TakeDevice(run, *ranks, local));
  if (device_.type == DeviceType::kCuda) {
    LOG_IF(WARNING, ranks->rank() == 0 && ranks_on_device_ > 1)
        << ranks_on_device_ << " ranks share " << ToString(device_) << ": expected a GPU for each";
    ASSIGN_OR_RETURN(ranks, CreateStagedCommunicator(std::move(ranks), device_));
  }
  ASSIGN_OR_RETURN(ProcessGroups groups,
                   ProcessGroups::Create(std::move(ranks), run.parallel().expert_parallel()));
  groups_ = std::make_unique<ProcessGroups>(std::move(groups));
  return absl::OkStatus();
}

absl::Status World::Agree(const absl::Status& mine) const {
  return AgreeOver(groups_->world(), mine);
}

std::vector<std::string> World::Gather(const std::string& mine) const {
  return GatherTexts(groups_->world(), mine);
}

}  // namespace unipool
