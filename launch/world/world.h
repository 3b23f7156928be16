// The ranks of a run and what each of them has: starts and ends MPI, or connects ranks on GPUs
// without it, creates the process groups, chooses the device and the share of the host's cores of
// this process, and makes ranks agree on errors.
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
#include "launch/config/messages.h"
#include "runtime/device.h"

namespace unipool {

// The rank of this process from the environment variables of its launcher, before MPI is started; 0
// without a launcher.
int LaunchRank();

// Returns true if this rank must report `status`, so that one rank reports each error. The status
// of Agree is reported by the rank that caused it; any other error is the same on all ranks, and
// the first reports it.
bool MustReport(const absl::Status& status);

// Starts MPI if mpirun or srun launched this process, and finalizes it in the destructor. At most
// one per process. If a process exits without destroying it, the launcher ends the other ranks.
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
  // All ranks of the launch, or a single one without a launcher. Ranks that have a GPU each
  // communicate over NCCL and need no MPI (comm/rendezvous.h). Collective. `run` is resolved and
  // checked.
  static absl::StatusOr<std::unique_ptr<World>> Create(const config::Run& run);
  // The same over a communicator of the caller, whose ranks all run on this host. For tests.
  static absl::StatusOr<std::unique_ptr<World>> Create(const config::Run& run,
                                                       std::unique_ptr<Communicator> ranks);

  int rank() const { return groups_->world().rank(); }
  int size() const { return groups_->world().size(); }
  bool is_first() const { return rank() == 0; }
  // The device of this rank; of the same kind on all ranks.
  Device device() const { return device_; }
  // Ranks that share this device: the GPU, or the memory of the host if it is the CPU.
  int ranks_on_device() const { return ranks_on_device_; }
  // Ranks that share the memory and the cores of this host.
  int ranks_on_host() const { return ranks_on_host_; }
  // The current work of this rank, for the report of a hang. The trainer updates it.
  Progress& progress() { return log_.progress(); }
  const ProcessGroups& groups() const { return *groups_; }

  // OK if the statuses of all ranks are. Otherwise every rank gets an error with the same code; the
  // lowest rank that failed gets its own message and is the one that MustReport. Collective.
  absl::Status Agree(const absl::Status& mine) const;
  // The texts of all ranks, in the order of the ranks; the same on all. Collective.
  std::vector<std::string> Gather(const std::string& mine) const;

 private:
  World() = default;
  // Three ways to create the ranks.
  absl::Status JoinOverMpi(const config::Run& run);
  absl::Status JoinOverNccl(const config::Run& run, const LaunchIdentity& identity);
  absl::Status CreateSingleRank(const config::Run& run);
  // Sets device_. An error if the devices of `ranks` are of different kinds.
  absl::Status SetDevice(const config::Run& run, Communicator& ranks, int local_rank);
  NcclSession::Options NcclOptions(const config::Run& run, int rank);
  // Keeps the NCCL session and the counts of `made`; returns its communicator.
  std::unique_ptr<Communicator> AdoptGpuRanks(GpuRanks made);
  absl::Status CreateGroups(const config::Run& run, std::unique_ptr<Communicator> ranks);
  std::unique_ptr<Messenger> ConnectWatchdogs();
  void StartWatchdog(const config::Run& run, std::unique_ptr<Messenger> messenger);
  // Ends this rank after another one was lost.
  [[noreturn]] void EndAfterLoss(int lost);

  Device device_;
  int ranks_on_device_ = 1;
  int ranks_on_host_ = 1;
  CallLog log_;
  std::unique_ptr<NcclSession> nccl_;  // null without NCCL
  std::unique_ptr<ProcessGroups> groups_;
  std::unique_ptr<Watchdog> watchdog_;  // null if the ranks are threads
};

}  // namespace unipool
