// How ranks find each other where there is no MPI: processes that torchrun, srun or a shell started
// call rank 0, at an address that all know (tcp://host:port) or that rank 0 writes into a file on a
// common file system (file:///path). The connections then serve the watchdogs.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "comm/rendezvous_sockets.h"
#include "comm/watchdog.h"

namespace unipool {

// A process's place in a launch without MPI.
struct LaunchIdentity {
  int rank = 0;
  int size = 1;
  int local_rank = 0;   // among the ranks of its host
  std::string address;  // of rank 0: "tcp://host:port" or "file:///path"; unused by one rank
};

// What the environment says: RANK, WORLD_SIZE, LOCAL_RANK with MASTER_ADDR and MASTER_PORT, as
// torchrun sets them; or UNIPOOL_RENDEZVOUS with those three or with SLURM_PROCID, SLURM_NTASKS,
// SLURM_LOCALID. Nothing where none of RANK, WORLD_SIZE, UNIPOOL_RENDEZVOUS is set.
// INVALID_ARGUMENT names a variable that is missing or wrong.
absl::StatusOr<std::optional<LaunchIdentity>> LaunchIdentityFromEnvironment();

class Rendezvous {
 public:
  // Collective. Errors say who is missing, and are each rank's own: DEADLINE_EXCEEDED where a rank
  // does not come within `deadline`, which bounds later calls too; INVALID_ARGUMENT for an address
  // that cannot be used and for ranks that contradict each other.
  static absl::StatusOr<std::unique_ptr<Rendezvous>> Join(const LaunchIdentity& place,
                                                          absl::Duration deadline);

  int rank() const { return place_.rank; }
  int size() const { return place_.size; }
  // Every rank's text, by rank. Collective. ABORTED where a rank is gone.
  absl::StatusOr<std::vector<std::string>> Gather(const std::string& mine);
  // Gives the connections to the watchdog: `on_lost` is called with a rank whose process or host
  // is gone before it has said goodbye (by destroying its messenger), a part of a second later.
  std::unique_ptr<Messenger> IntoMessenger(std::function<void(int rank)> on_lost);

 private:
  Rendezvous(LaunchIdentity place, absl::Duration deadline);
  absl::Status ListenForAll();
  absl::Status TakeIn(TcpSocket caller, uint64_t token, absl::Time until);
  absl::Status CallFirst();
  absl::Status TryToCall(const std::string& host, int port, uint64_t token, std::string* why);
  absl::Status Late(const std::string& why) const;

  const LaunchIdentity place_;
  const absl::Duration deadline_;
  std::vector<TcpSocket> ranks_;  // of rank 0: by rank; of others: that to rank 0
};

}  // namespace unipool
