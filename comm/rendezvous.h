// Connects ranks that are not started by MPI: processes that torchrun, srun or a shell started
// connect to rank 0, at an address that all of them have (tcp://host:port) or that rank 0 writes to
// a file on a shared file system (file:///path). The watchdogs then use the connections.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "comm/communicator.h"
#include "comm/rendezvous_sockets.h"
#include "comm/watchdog.h"

namespace unipool {

// The rank of a process in a launch without MPI, and where the ranks meet.
struct LaunchIdentity {
  int rank = 0;
  int size = 1;
  int local_rank = 0;   // among the ranks on the same host
  std::string address;  // of rank 0: "tcp://host:port" or "file:///path"; unused if size is 1
};

// Reads the environment: RANK, WORLD_SIZE, LOCAL_RANK with MASTER_ADDR and MASTER_PORT, as torchrun
// sets them; or UNIPOOL_RENDEZVOUS with these three, or with SLURM_PROCID, SLURM_NTASKS and
// SLURM_LOCALID. Returns nullopt if none of RANK, WORLD_SIZE and UNIPOOL_RENDEZVOUS is set.
// INVALID_ARGUMENT names a variable that is missing or wrong.
absl::StatusOr<std::optional<LaunchIdentity>> LaunchIdentityFromEnvironment();

// A launcher that started several processes which do not know each other.
struct ForeignLaunch {
  int rank = 0;       // of this process, as the launcher counts
  std::string error;  // empty if there is no such launcher
};

// Reads the environment of a process that neither MPI nor LaunchIdentityFromEnvironment connects to
// others: SLURM_STEP_NUM_TASKS of srun without PMIx, PMI_SIZE of an MPICH-like mpiexec.
ForeignLaunch FindForeignLaunch();

class Rendezvous {
 public:
  // Waits until all ranks are connected to rank 0. Collective. `deadline` bounds this call and each
  // later one. Errors differ between ranks: DEADLINE_EXCEEDED names the ranks that did not join in
  // time; INVALID_ARGUMENT reports an unusable address, or ranks with contradictory settings.
  static absl::StatusOr<std::unique_ptr<Rendezvous>> Join(const LaunchIdentity& identity,
                                                          absl::Duration deadline);

  // The same among ranks that already communicate: rank 0 listens at a free port, and `ranks`
  // carries the address. The connections notice the loss of a rank at once.
  static absl::StatusOr<std::unique_ptr<Rendezvous>> JoinAmong(Communicator& ranks,
                                                               absl::Duration deadline);

  int rank() const { return identity_.rank; }
  int size() const { return identity_.size; }
  // Returns the text of every rank, by rank. Collective. DEADLINE_EXCEEDED after the deadline,
  // ABORTED if a rank has closed its connection.
  absl::StatusOr<std::vector<std::string>> Gather(const std::string& mine);
  // Moves the connections to a messenger for the watchdog; this object can then only be destroyed.
  // The messenger's Receive calls `on_lost` with a rank whose process has exited, or whose host
  // cannot be reached, before it destroyed its messenger.
  std::unique_ptr<Messenger> IntoMessenger(std::function<void(int rank)> on_lost);

 private:
  Rendezvous(LaunchIdentity identity, absl::Duration deadline);
  absl::Status AcceptRanks();
  absl::Status AcceptFrom(const TcpSocket& listener, uint64_t token);
  absl::Status AdmitRank(TcpSocket connection, uint64_t token, absl::Time until);
  absl::Status ConnectToRank0();
  // Tries the addresses of a text of rank 0 until one accepts.
  absl::Status ConnectByText(const std::string& text);
  absl::Status TryConnect(const std::string& host, int port, uint64_t token, std::string* error);
  absl::Status TimeoutError(const std::string& details) const;
  // "rank 3 on node1".
  std::string RankName() const;

  const LaunchIdentity identity_;
  const absl::Duration deadline_;
  std::vector<TcpSocket> ranks_;  // on rank 0: by rank; on others: the connection to rank 0
};

}  // namespace unipool
