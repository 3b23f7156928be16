// What the environment says of a process's place in a launch without MPI.
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "comm/rendezvous.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// A number of at least `least` and below `limit`.
absl::StatusOr<int> Number(const char* name, int least, int limit, const char* launcher) {
  const char* const text = std::getenv(name);
  if (text == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is not set, but other variables of a launch by ", launcher,
                     " are; expected all of them, or none for a single process"));
  }
  int value = 0;
  if (absl::SimpleAtoi(text, &value) && least <= value && value < limit) return value;
  return absl::InvalidArgumentError(
      absl::StrCat(name, " = '", text, "': expected a number from ", least, " to ", limit - 1));
}

constexpr int kMaxRanks = 1 << 20;

struct Names {
  const char *rank, *size, *local_rank, *launcher;
};
constexpr Names kTorchrun = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "torchrun"};
constexpr Names kSlurm = {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "srun"};

bool IsSet(const char* name) { return std::getenv(name) != nullptr; }

// torchrun keeps a store of its own at MASTER_PORT on rank 0's host: the next port is ours then.
absl::StatusOr<std::string> MasterAddress(const char* launcher) {
  const char* const host = std::getenv("MASTER_ADDR");
  if (host == nullptr || *host == '\0') {
    return absl::InvalidArgumentError(
        absl::StrCat("MASTER_ADDR is not set, but other variables of a launch by ", launcher,
                     " are; expected the host of rank 0, or UNIPOOL_RENDEZVOUS"));
  }
  ASSIGN_OR_RETURN(const int port, Number("MASTER_PORT", 1, 65535, launcher));
  const char* const store = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  const bool is_taken = store != nullptr && absl::string_view(store) == "True";
  return absl::StrCat("tcp://", host, ":", is_taken ? port + 1 : port);
}

}  // namespace

absl::StatusOr<std::optional<LaunchIdentity>> LaunchIdentityFromEnvironment() {
  const char* const rendezvous = std::getenv("UNIPOOL_RENDEZVOUS");
  const bool by_torchrun = IsSet("RANK") || IsSet("WORLD_SIZE");
  if (!by_torchrun && rendezvous == nullptr) return std::nullopt;
  const Names& names = by_torchrun ? kTorchrun : kSlurm;
  LaunchIdentity place;
  ASSIGN_OR_RETURN(place.size, Number(names.size, 1, kMaxRanks, names.launcher));
  ASSIGN_OR_RETURN(place.rank, Number(names.rank, 0, place.size, names.launcher));
  ASSIGN_OR_RETURN(place.local_rank, Number(names.local_rank, 0, place.size, names.launcher));
  if (place.size == 1) return place;
  if (rendezvous == nullptr) {
    ASSIGN_OR_RETURN(place.address, MasterAddress(names.launcher));
    return place;
  }
  place.address = rendezvous;
  if (place.address.rfind("tcp://", 0) != 0 && place.address.rfind("file:///", 0) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("UNIPOOL_RENDEZVOUS = '", place.address,
                     "': expected tcp://host:port, or file:///path with a path of this run's own"));
  }
  return place;
}

}  // namespace unipool
