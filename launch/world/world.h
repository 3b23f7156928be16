// The ranks of this run and this rank's place among them: starts and ends MPI, lets ranks on GPUs
// meet without it, makes the process groups up front, gives this process its device and its share
// of the host's cores, and lets ranks agree on errors.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "comm/call_log.h"
#include "comm/gpu_ranks.h"
#include "comm/nccl_communicator.h"
#include "comm/process_groups.h"
#include "comm/rendezvous.h"
#include "comm/watchdog.h"
#include "runtime/device.h"

namespace unipool {

namespace config {
class Run;
}

// Rank of this process as its launcher says, before MPI is started; 0 without a launcher.
int LaunchRank();

// True where this rank has to tell of an error: of one that ranks agreed on, the rank that has it;
// of any other, which all ranks have alike, the first.
bool TellsOf(const absl::Status& status);

// Starts MPI where the process was launched by it, and ends it when destroyed; at most one a
// process. A process that ends without destroying it leaves the ending to the launcher.
class MpiSession {
 public:
  MpiSession();
  ~MpiSession();
  MpiSession(const MpiSession&) = delete;
  MpiSession& operator=(const MpiSession&) = delete;

 private:
  bool started_;
};

class World {
 public:
  // All ranks of the launch, or this process alone. Ranks on GPUs talk over NCCL where each has its
  // own, and then need no MPI (comm/rendezvous.h). Collective. `run` is resolved and checked.
  static absl::StatusOr<std::unique_ptr<World>> Create(const config::Run& run);
  // The same over ranks made by the caller, which are taken for those of one host.
  static absl::StatusOr<std::unique_ptr<World>> Create(const config::Run& run,
                                                       std::unique_ptr<Communicator> ranks);

  int rank() const { return groups_->world().rank(); }
  int size() const { return groups_->world().size(); }
  bool is_first() const { return rank() == 0; }
  // What this rank computes on, of one kind on all ranks.
  Device device() const { return device_; }
  // Ranks of this host that have that GPU, or the host's memory where it is the CPU.
  int ranks_on_device() const { return ranks_on_device_; }
  // Ranks that share this host's memory and cores.
  int ranks_on_host() const { return ranks_on_host_; }
  // What this rank is working on: written by the trainer, reported when nothing moves.
  Progress& progress() { return log_.progress(); }
  const ProcessGroups& groups() const { return *groups_; }

  // OK where all ranks' statuses are. Otherwise every rank gets an error; the lowest rank that
  // failed keeps its own message, which it alone has to tell. Collective.
  absl::Status Agree(const absl::Status& mine) const;
  // Every rank's text, by rank, on all ranks. Collective.
  std::vector<std::string> Gather(const std::string& mine) const;

 private:
  World() = default;
  // The three ways in which ranks are there.
  absl::Status JoinOverMpi(const config::Run& run);
  absl::Status MeetOnGpus(const config::Run& run, const LaunchIdentity& place);
  absl::Status BeAlone(const config::Run& run);
  // The device, of one kind on all of `ranks`; `local_rank` is among those of the host.
  absl::Status TakeDevice(const config::Run& run, Communicator& ranks, int local_rank);
  NcclSession::Options NcclOptions(const config::Run& run, int rank);
  std::unique_ptr<Communicator> Take(GpuRanks made);
  absl::Status Group(const config::Run& run, std::unique_ptr<Communicator> ranks);
  void Watch(const config::Run& run, std::unique_ptr<Messenger> messenger);

  Device device_;
  int ranks_on_device_ = 1;
  int ranks_on_host_ = 1;
  CallLog log_;
  std::unique_ptr<NcclSession> nccl_;  // null where no tensor goes over NCCL
  std::unique_ptr<ProcessGroups> groups_;
  std::unique_ptr<Watchdog> watchdog_;  // null for ranks that are threads
};

}  // namespace unipool
