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
#include "launch/world/process_limits.h"
#include "launch/world/signals.h"
#include "runtime/blas.h"
#include "runtime/build_config.h"
#include "runtime/device.h"
#include "runtime/gpu.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// A payload of statuses that says whether this rank or another one reports them.
constexpr char kReporter[] = "unipool/reporter";
constexpr char kThisRank[] = "this rank";
constexpr char kOtherRank[] = "another rank";

absl::Status WithReporter(absl::Status status, const char* reporter) {
  status.SetPayload(kReporter, absl::Cord(reporter));
  return status;
}

int EnvironmentInt(const char* name, int otherwise) {
  const char* text = std::getenv(name);
  int value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : otherwise;
}

// See World::Agree.
absl::Status AgreeOver(Communicator& ranks, const absl::Status& mine) {
  // Each failed rank contributes -1 - rank, so the maximum belongs to the lowest failed rank. Ranks
  // without an error contribute a number below all of these.
  int32_t failed = mine.ok() ? -ranks.size() - 1 : -1 - ranks.rank();
  const std::unique_ptr<Stream> stream = Stream::Create(Device{});
  ranks.AllReduce(Tensor::Of(&failed, {1}), ReduceOp::kMax, *stream);
  if (failed == -ranks.size() - 1) return absl::OkStatus();
  const int first_failed = -1 - failed;
  int32_t code = static_cast<int32_t>(mine.code());  // gives all ranks the same exit code
  ranks.Broadcast(Tensor::Of(&code, {1}), first_failed, *stream);
  if (first_failed == ranks.rank()) return WithReporter(mine, kThisRank);
  return WithReporter(absl::Status(static_cast<absl::StatusCode>(code),
                                   absl::StrCat("rank ", first_failed, " reported an error")),
                      kOtherRank);
}

absl::Duration Deadline(const config::Run& run) {
  return absl::Seconds(run.parallel().deadline_seconds());
}

// OpenMP parallelizes the loops, and OpenBLAS runs single-threaded inside them. OpenMP has read
// OMP_NUM_THREADS already. RESOURCE_EXHAUSTED if the system cannot start the threads: OpenMP itself
// would end the process.
absl::Status SetThreads(int threads, int ranks_on_host) {
  SetBlasThreads(1);
  const bool is_environment = threads == 0 && std::getenv("OMP_NUM_THREADS") != nullptr;
  if (is_environment && omp_get_max_threads() > kMaxThreads) {
    LOG(WARNING) << "OMP_NUM_THREADS is " << omp_get_max_threads() << ", the maximum is "
                 << kMaxThreads << "; each rank uses its share of the cores instead";
  }
  if (!is_environment || omp_get_max_threads() > kMaxThreads) {
    omp_set_num_threads(threads > 0 ? threads : std::max(1, HostCores() / ranks_on_host));
  }
  return CheckThreads(omp_get_max_threads());
}

// Ends all ranks if MPI launched them. Otherwise ends this one; the watchdogs of the others end
// them.
[[noreturn]] void EndJob(int exit_code, const std::string& message) {
  if (!message.empty()) std::cerr << "unipool: " << message << std::endl;
  if (LaunchedByMpi()) AbortMpi(exit_code);
  std::_Exit(exit_code);
}

// Ranks that another launcher (torchrun) started communicate over NCCL only. On CPUs each of them
// would train the whole run.
absl::Status CheckHasGpu(const config::Run& run, const LaunchIdentity& identity) {
  if (WantedDevice(run) == DeviceType::kCuda) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "the environment describes ", identity.size,
      " ranks that MPI did not start, but ranks on CPUs need MPI; start them with launch/mpirun.sh "
      "-np ",
      identity.size, " or srun --mpi=pmix"));
}

// An error if a launcher started this process as one of several that are not connected. Only the
// first of them reports it.
absl::Status CheckIsWholeLaunch() {
  const ForeignLaunch launch = FindForeignLaunch();
  if (launch.error.empty()) return absl::OkStatus();
  return WithReporter(absl::InvalidArgumentError(launch.error),
                      launch.rank == 0 ? kThisRank : kOtherRank);
}

// An error if mpirun started several ranks, but the MPI library of this program sees only one.
absl::Status CheckMpiSize(const Communicator& ranks) {
  const int started = EnvironmentInt("OMPI_COMM_WORLD_SIZE", 1);
  if (ranks.size() > 1 || started <= 1) return absl::OkStatus();
  return WithReporter(
      absl::InvalidArgumentError(
          absl::StrCat("mpirun started ", started, " ranks, but the MPI library of this program (",
                       MpiVersion().found, ") sees one; use the mpirun of the same Open MPI")),
      EnvironmentInt("OMPI_COMM_WORLD_RANK", 0) == 0 ? kThisRank : kOtherRank);
}

// Marks an error of the connection to other ranks: each rank that has one reports it.
absl::Status MarkConnectionError(absl::Status status) {
  const bool is_connection = absl::IsAborted(status) || absl::IsDeadlineExceeded(status);
  return is_connection ? WithReporter(std::move(status), kThisRank) : status;
}

// The messenger of a single rank.
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
  const absl::StatusOr<std::optional<LaunchIdentity>> identity = LaunchIdentityFromEnvironment();
  return identity.ok() && identity->has_value() ? (*identity)->rank : 0;
}

bool MustReport(const absl::Status& status) {
  const absl::optional<absl::Cord> reporter = status.GetPayload(kReporter);
  return reporter.has_value() ? *reporter == kThisRank : LaunchRank() == 0;
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
  const absl::StatusOr<std::optional<LaunchIdentity>> identity = LaunchIdentityFromEnvironment();
  if (!identity.ok()) return WithReporter(identity.status(), kThisRank);
  if (!identity->has_value()) RETURN_IF_ERROR(CheckIsWholeLaunch());
  const bool is_single = !identity->has_value() || (*identity)->size == 1;
  RETURN_IF_ERROR(is_single ? self->CreateSingleRank(run) : self->JoinOverNccl(run, **identity));
  return self;
}

absl::StatusOr<std::unique_ptr<World>> World::Create(const config::Run& run,
                                                     std::unique_ptr<Communicator> ranks) {
  auto self = std::unique_ptr<World>(new World());
  self->ranks_on_host_ = ranks->size();
  RETURN_IF_ERROR(self->SetDevice(run, *ranks, ranks->rank()));
  self->ranks_on_device_ = ranks->size();
  if (self->device_.type == DeviceType::kCuda) {
    if constexpr (kWithCuda) {
      const int gpus = NumGpus();
      self->ranks_on_device_ = (ranks->size() - self->device_.index + gpus - 1) / gpus;
    }
    ASSIGN_OR_RETURN(ranks, CreateStagedCommunicator(std::move(ranks), self->device_));
  }
  RETURN_IF_ERROR(self->CreateGroups(run, std::move(ranks)));
  return self;
}

absl::Status World::CreateSingleRank(const config::Run& run) {
  RETURN_IF_ERROR(SetThreads(run.parallel().threads(), 1));
  std::unique_ptr<Communicator> rank = std::move(CreateLocalCommunicators(1, Deadline(run))[0]);
  RETURN_IF_ERROR(SetDevice(run, *rank, 0));
  if (device_.type == DeviceType::kCuda) {
    ASSIGN_OR_RETURN(rank, CreateStagedCommunicator(std::move(rank), device_));
  }
  RETURN_IF_ERROR(CreateGroups(run, std::move(rank)));
  StartWatchdog(run, std::make_unique<NoMessenger>());
  return absl::OkStatus();
}

absl::Status World::JoinOverMpi(const config::Run& run) {
  const LocalRank local = MpiLocalRank();
  ranks_on_host_ = ranks_on_device_ = local.size;
  const absl::Status threads = SetThreads(run.parallel().threads(), ranks_on_host_);
  // The watchdog reports a hang in more detail than the call that waits, so that call gets a later
  // deadline.
  auto ranks = CreateMpiWorld(Deadline(run) + absl::Seconds(20), &log_);
  RETURN_IF_ERROR(CheckMpiSize(*ranks));
  RETURN_IF_ERROR(AgreeOver(*ranks, threads));
  RETURN_IF_ERROR(SetDevice(run, *ranks, local.rank));
  if (device_.type == DeviceType::kCuda) {
    const NcclSession::Options options = NcclOptions(run, ranks->rank());
    ASSIGN_OR_RETURN(GpuRanks made, MakeGpuRanks(std::move(ranks), options));
    ranks = AdoptGpuRanks(std::move(made));
  }
  RETURN_IF_ERROR(CreateGroups(run, std::move(ranks)));
  StartWatchdog(run, ConnectWatchdogs());
  return absl::OkStatus();
}

// mpirun's daemons notice a lost rank and end the others. Under another launcher, such as srun, the
// watchdogs have connections of their own for that.
std::unique_ptr<Messenger> World::ConnectWatchdogs() {
  constexpr absl::Duration kPatience = absl::Seconds(20);
  const bool has_daemons = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr;
  if (has_daemons || size() == 1) return CreateMpiMessenger();
  absl::StatusOr<std::unique_ptr<Rendezvous>> joined =
      Rendezvous::JoinAmong(groups_->world(), kPatience);
  if (const absl::Status agreed = Agree(joined.status()); !agreed.ok()) {
    LOG_IF(WARNING, rank() == 0) << "the loss of a rank is noticed only after "
                                    "parallel.deadline_seconds, because the watchdogs of the ranks "
                                    "cannot connect: "
                                 << agreed.message();
    return CreateMpiMessenger();
  }
  return (*joined)->IntoMessenger([this](int lost) { EndAfterLoss(lost); });
}

void World::EndAfterLoss(int lost) {
  if (nccl_ != nullptr) nccl_->RecordCompletedCalls();
  EndJob(kExitLostPeer,
         absl::StrCat("rank ", rank(), " on ", HostName(), " lost rank ", lost, " in ",
                      log_.CurrentActivity(),
                      "; check its log and its host, then restart from the last checkpoint"));
}

absl::Status World::JoinOverNccl(const config::Run& run, const LaunchIdentity& identity) {
  RETURN_IF_ERROR(CheckHasGpu(run, identity));
  absl::StatusOr<std::unique_ptr<Rendezvous>> rendezvous =
      Rendezvous::Join(identity, Deadline(run));
  if (!rendezvous.ok()) return WithReporter(rendezvous.status(), kThisRank);
  ASSIGN_OR_RETURN(device_, ChooseDevice(run, identity.local_rank));
  absl::StatusOr<GpuRanks> made = MakeGpuRanks(**rendezvous, NcclOptions(run, identity.rank));
  if (!made.ok()) return MarkConnectionError(made.status());
  std::unique_ptr<Communicator> ranks = AdoptGpuRanks(*std::move(made));
  RETURN_IF_ERROR(AgreeOver(*ranks, SetThreads(run.parallel().threads(), ranks_on_host_)));
  RETURN_IF_ERROR(CreateGroups(run, std::move(ranks)));
  StartWatchdog(run, (*rendezvous)->IntoMessenger([this](int lost) { EndAfterLoss(lost); }));
  return absl::OkStatus();
}

absl::Status World::SetDevice(const config::Run& run, Communicator& ranks, int local_rank) {
  const absl::StatusOr<Device> device = ChooseDevice(run, local_rank);
  RETURN_IF_ERROR(AgreeOver(ranks, device.status()));
  device_ = *device;
  const int32_t is_gpu = device_.type == DeviceType::kCuda ? 1 : 0;
  int32_t found[] = {is_gpu, -is_gpu};
  ranks.AllReduce(Tensor::Of(found, {2}), ReduceOp::kMax, *Stream::Create(Device{}));
  if (found[0] == -found[1]) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "parallel.device is AUTO, but only some of the ranks have a GPU; set it to CPU or CUDA "
      "(--device)");
}

NcclSession::Options World::NcclOptions(const config::Run& run, int rank) {
  return {.gpu = device_,
          .world_rank = rank,
          .deadline = Deadline(run),
          .log = &log_,
          .on_error = [](const std::string& error) { EndJob(kExitLostPeer, error); }};
}

std::unique_ptr<Communicator> World::AdoptGpuRanks(GpuRanks made) {
  nccl_ = std::move(made.session);
  ranks_on_host_ = made.ranks_on_host;
  ranks_on_device_ = made.ranks_on_gpu;
  return std::move(made.ranks);
}

absl::Status World::CreateGroups(const config::Run& run, std::unique_ptr<Communicator> ranks) {
  ASSIGN_OR_RETURN(ProcessGroups groups,
                   ProcessGroups::Create(std::move(ranks), run.parallel().expert_parallel()));
  groups_ = std::make_unique<ProcessGroups>(std::move(groups));
  return absl::OkStatus();
}

void World::StartWatchdog(const config::Run& run, std::unique_ptr<Messenger> messenger) {
  Watchdog::Options options{
      .rank = rank(),
      .size = size(),
      .hosts = Gather(HostName()),
      .deadline = Deadline(run),
      .is_terminating = &SigtermReceived,
      .state_requests = &StateRequests,
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
