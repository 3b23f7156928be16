#include "launch/world/world.h"

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
#include "comm/host_name.h"
#include "comm/local_communicator.h"
#include "comm/mpi_communicator.h"
#include "comm/staged_communicator.h"
#include "configs/run.pb.h"
#include "launch/config/run_config.h"
#include "launch/world/device_choice.h"
#include "launch/world/exit_codes.h"
#include "launch/world/signals.h"
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

absl::Duration Deadline(const config::Run& run) {
  return absl::Seconds(run.parallel().deadline_seconds());
}

// OpenMP runs our loops and calls OpenBLAS from inside them, one thread each. It has read
// OMP_NUM_THREADS itself; it would end in a crash with more than the system can start.
void SetThreads(int threads, int ranks_on_host) {
  SetBlasThreads(1);
  if (threads == 0 && std::getenv("OMP_NUM_THREADS") != nullptr) {
    if (omp_get_max_threads() <= kMaxThreads) return;
    LOG(WARNING) << "OMP_NUM_THREADS: expected at most " << kMaxThreads << ", found "
                 << omp_get_max_threads() << "; a rank takes its share of the cores";
  }
  omp_set_num_threads(threads > 0 ? threads : std::max(1, HostCores() / ranks_on_host));
}

// Ends all ranks where MPI started them, else this one: the others have watchdogs of their own.
[[noreturn]] void EndJob(int exit_code, const std::string& words) {
  if (!words.empty()) std::cerr << "unipool: " << words << std::endl;
  if (LaunchedByMpi()) AbortMpi(exit_code);
  std::_Exit(exit_code);
}

// Processes on CPUs that torchrun or the like started would each take themselves for the whole run.
absl::Status CheckHasGpu(const config::Run& run, const LaunchIdentity& place) {
  if (WantedDevice(run) == DeviceType::kCuda) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the environment says ", place.size,
      " ranks, which MPI did not start: ranks on CPUs need it; expected launch/mpirun.sh -np ",
      place.size, ", or srun --mpi=pmix"));
}

// An error that this rank has for itself, like one of who does not come.
absl::Status Own(absl::Status status) {
  const bool is_own = absl::IsAborted(status) || absl::IsDeadlineExceeded(status);
  return is_own ? WithTeller(std::move(status), kHere) : status;
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
  const absl::StatusOr<std::optional<LaunchIdentity>> place = LaunchIdentityFromEnvironment();
  return place.ok() && place->has_value() ? (*place)->rank : 0;
}

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
  auto self = std::unique_ptr<World>(new World());
  if (LaunchedByMpi()) {
    RETURN_IF_ERROR(self->JoinOverMpi(run));
    return self;
  }
  const absl::StatusOr<std::optional<LaunchIdentity>> place = LaunchIdentityFromEnvironment();
  if (!place.ok()) return WithTeller(place.status(), kHere);
  const bool is_alone = !place->has_value() || (*place)->size == 1;
  RETURN_IF_ERROR(is_alone ? self->BeAlone(run) : self->MeetOnGpus(run, **place));
  return self;
}

absl::StatusOr<std::unique_ptr<World>> World::Create(const config::Run& run,
                                                     std::unique_ptr<Communicator> ranks) {
  auto self = std::unique_ptr<World>(new World());
  self->ranks_on_host_ = ranks->size();
  RETURN_IF_ERROR(self->TakeDevice(run, *ranks, ranks->rank()));
  self->ranks_on_device_ = ranks->size();
  if (self->device_.type == DeviceType::kCuda) {
    if constexpr (kWithCuda) {
      const int gpus = NumGpus();
      self->ranks_on_device_ = (ranks->size() - self->device_.index + gpus - 1) / gpus;
    }
    ASSIGN_OR_RETURN(ranks, CreateStagedCommunicator(std::move(ranks), self->device_));
  }
  RETURN_IF_ERROR(self->Group(run, std::move(ranks)));
  return self;
}

absl::Status World::BeAlone(const config::Run& run) {
  SetThreads(run.parallel().threads(), 1);
  std::unique_ptr<Communicator> rank = std::move(CreateLocalCommunicators(1, Deadline(run))[0]);
  RETURN_IF_ERROR(TakeDevice(run, *rank, 0));
  if (device_.type == DeviceType::kCuda) {
    ASSIGN_OR_RETURN(rank, CreateStagedCommunicator(std::move(rank), device_));
  }
  RETURN_IF_ERROR(Group(run, std::move(rank)));
  Watch(run, std::make_unique<NoMessenger>());
  return absl::OkStatus();
}

absl::Status World::JoinOverMpi(const config::Run& run) {
  const LocalRank local = MpiLocalRank();
  ranks_on_host_ = ranks_on_device_ = local.size;
  SetThreads(run.parallel().threads(), ranks_on_host_);
  // The watchdog knows more than the call that waits, so that one has a little more patience.
  auto ranks = CreateMpiWorld(Deadline(run) + absl::Seconds(20), &log_);
  RETURN_IF_ERROR(TakeDevice(run, *ranks, local.rank));
  if (device_.type == DeviceType::kCuda) {
    const NcclSession::Options options = NcclOptions(run, ranks->rank());
    ASSIGN_OR_RETURN(GpuRanks made, MakeGpuRanks(std::move(ranks), options));
    ranks = Take(std::move(made));
  }
  RETURN_IF_ERROR(Group(run, std::move(ranks)));
  Watch(run, CreateMpiMessenger());
  return absl::OkStatus();
}

absl::Status World::MeetOnGpus(const config::Run& run, const LaunchIdentity& place) {
  RETURN_IF_ERROR(CheckHasGpu(run, place));
  absl::StatusOr<std::unique_ptr<Rendezvous>> rendezvous = Rendezvous::Join(place, Deadline(run));
  if (!rendezvous.ok()) return WithTeller(rendezvous.status(), kHere);
  ASSIGN_OR_RETURN(device_, ChooseDevice(run, place.local_rank));
  absl::StatusOr<GpuRanks> made = MakeGpuRanks(**rendezvous, NcclOptions(run, place.rank));
  if (!made.ok()) return Own(made.status());
  std::unique_ptr<Communicator> ranks = Take(*std::move(made));
  SetThreads(run.parallel().threads(), ranks_on_host_);
  RETURN_IF_ERROR(Group(run, std::move(ranks)));
  Watch(run, (*rendezvous)->IntoMessenger([this](int lost) {
    nccl_->RecordCompletedCalls();
    EndJob(kExitLostPeer,
           absl::StrCat("rank ", rank(), " on ", HostName(), " lost rank ", lost, " in ",
                        log_.CurrentActivity(),
                        "; check its log and its host, then restart from the last checkpoint"));
  }));
  return absl::OkStatus();
}

absl::Status World::TakeDevice(const config::Run& run, Communicator& ranks, int local_rank) {
  const absl::StatusOr<Device> device = ChooseDevice(run, local_rank);
  RETURN_IF_ERROR(AgreeOver(ranks, device.status()));
  device_ = *device;
  const int32_t is_gpu = device_.type == DeviceType::kCuda ? 1 : 0;
  int32_t found[] = {is_gpu, -is_gpu};
  ranks.AllReduce(Tensor::Of(found, {2}), ReduceOp::kMax, *Stream::Create(Device{}));
  if (found[0] == -found[1]) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "parallel.device = AUTO: some ranks have a GPU and some have none: expected CPU or CUDA");
}

NcclSession::Options World::NcclOptions(const config::Run& run, int rank) {
  return {.gpu = device_,
          .world_rank = rank,
          .deadline = Deadline(run),
          .log = &log_,
          .on_error = [](const std::string& error) { EndJob(kExitLostPeer, error); }};
}

std::unique_ptr<Communicator> World::Take(GpuRanks made) {
  nccl_ = std::move(made.session);
  ranks_on_host_ = made.ranks_on_host;
  ranks_on_device_ = made.ranks_on_gpu;
  return std::move(made.ranks);
}

absl::Status World::Group(const config::Run& run, std::unique_ptr<Communicator> ranks) {
  ASSIGN_OR_RETURN(ProcessGroups groups,
                   ProcessGroups::Create(std::move(ranks), run.parallel().expert_parallel()));
  groups_ = std::make_unique<ProcessGroups>(std::move(groups));
  return absl::OkStatus();
}

void World::Watch(const config::Run& run, std::unique_ptr<Messenger> messenger) {
  Watchdog::Options options{
      .rank = rank(),
      .size = size(),
      .hosts = Gather(HostName()),
      .deadline = Deadline(run),
      .is_terminating = &TerminationNoted,
      .on_hang = [](const std::string& report) { EndJob(kExitHang, report); }};
  if (nccl_ != nullptr) {
    options.on_poll = [this] {
      nccl_->RecordCompletedCalls();
      nccl_->CheckForErrors();
    };
  }
  watchdog_ = std::make_unique<Watchdog>(log_, std::move(messenger), std::move(options));
}

absl::Status World::Agree(const absl::Status& mine) const {
  return AgreeOver(groups_->world(), mine);
}

std::vector<std::string> World::Gather(const std::string& mine) const {
  return GatherTexts(groups_->world(), mine);
}

}  // namespace unipool
