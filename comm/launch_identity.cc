// Reads the rank of a process from the environment variables of torchrun and srun.
#include <cstdlib>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "comm/process_groups.h"
#include "comm/rendezvous.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Reads an integer variable in [minimum, limit). `launcher` sets it.
absl::StatusOr<int> ReadInteger(const char* name, int minimum, int limit, const char* launcher) {
  const char* const text = std::getenv(name);
  if (text == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, " is not set, but other variables of a launch by ", launcher,
                     " are; set it, or unset all of them to run a single process"));
  }
  int value = 0;
  if (absl::SimpleAtoi(text, &value) && minimum <= value && value < limit) return value;
  return absl::InvalidArgumentError(absl::StrCat(name, " = '", text,
                                                 "' is out of range; set it to a number from ",
                                                 minimum, " to ", limit - 1));
}

struct Names {
  const char *rank, *size, *local_rank, *launcher;
};
constexpr Names kTorchrun = {"RANK", "WORLD_SIZE", "LOCAL_RANK", "torchrun"};
constexpr Names kSlurm = {"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID", "srun"};

bool IsSet(const char* name) { return std::getenv(name) != nullptr; }

// With its agent store, torchrun itself listens at MASTER_PORT on the host of rank 0, so the
// rendezvous uses the next port.
absl::StatusOr<std::string> MasterAddress(const char* launcher) {
  const char* const host = std::getenv("MASTER_ADDR");
  if (host == nullptr || *host == '\0') {
    return absl::InvalidArgumentError(
        absl::StrCat("MASTER_ADDR is not set, but other variables of a launch by ", launcher,
                     " are; set it to the host of rank 0, or set UNIPOOL_RENDEZVOUS"));
  }
  ASSIGN_OR_RETURN(const int port, ReadInteger("MASTER_PORT", 1, 65535, launcher));
  const char* const store = std::getenv("TORCHELASTIC_USE_AGENT_STORE");
  const bool torchrun_listens = store != nullptr && absl::string_view(store) == "True";
  return absl::StrCat("tcp://", host, ":", torchrun_listens ? port + 1 : port);
}

// Returns an integer variable of the environment, 0 if it is not set.
int IntegerOr0(const char* name) {
  const char* const text = std::getenv(name);
  int value = 0;
  return text != nullptr && absl::SimpleAtoi(text, &value) ? value : 0;
}

}  // namespace

ForeignLaunch FindForeignLaunch() {
  if (const int tasks = IntegerOr0("SLURM_STEP_NUM_TASKS"); tasks > 1) {
    return {
        .rank = IntegerOr0("SLURM_PROCID"),
        .error = absl::StrCat(
            "srun started ", tasks,
            " tasks without MPI, and each would be a run of its own; add --mpi=pmix to srun, use "
            "launch/mpirun.sh, or unset SLURM_STEP_NUM_TASKS for a single process")};
  }
  if (const int ranks = IntegerOr0("PMI_SIZE"); ranks > 1) {
    return {.rank = IntegerOr0("PMI_RANK"),
            .error = absl::StrCat(
                "the launcher of another MPI started ", ranks,
                " processes (PMI_SIZE), and each would be a run of its own; start them with the "
                "mpirun of Open MPI (launch/mpirun.sh) or srun --mpi=pmix")};
  }
  return {};
}

absl::StatusOr<std::optional<LaunchIdentity>> LaunchIdentityFromEnvironment() {
  const char* const rendezvous = std::getenv("UNIPOOL_RENDEZVOUS");
  const bool by_torchrun = IsSet("RANK") || IsSet("WORLD_SIZE");
  if (!by_torchrun && rendezvous == nullptr) return std::nullopt;
  const Names& names = by_torchrun ? kTorchrun : kSlurm;
  LaunchIdentity identity;
  ASSIGN_OR_RETURN(identity.size, ReadInteger(names.size, 1, kMaxRanks, names.launcher));
  ASSIGN_OR_RETURN(identity.rank, ReadInteger(names.rank, 0, identity.size, names.launcher));
  ASSIGN_OR_RETURN(identity.local_rank,
                   ReadInteger(names.local_rank, 0, identity.size, names.launcher));
  if (identity.size == 1) return identity;
  if (rendezvous == nullptr) {
    ASSIGN_OR_RETURN(identity.address, MasterAddress(names.launcher));
    return identity;
  }
  identity.address = rendezvous;
  if (identity.address.rfind("tcp://", 0) != 0 && identity.address.rfind("file:///", 0) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "UNIPOOL_RENDEZVOUS = '", identity.address,
        "' is not an address; set it to tcp://HOST:PORT of rank 0, or to file:///PATH on a shared "
        "file system, with another path for each start"));
  }
  return identity;
}

}  // namespace unipool
