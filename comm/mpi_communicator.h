// Ranks that are processes started by mpirun or srun, connected by MPI. Tensors are in host memory.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "comm/communicator.h"
#include "runtime/library_version.h"

struct ompi_communicator_t;

namespace unipool {

class CallLog;
class Messenger;

// Returns true if mpirun started this process, or srun with a PMI that Open MPI supports.
bool LaunchedByMpi();
// May be called before InitializeMpi and after FinalizeMpi.
LibraryVersion MpiVersion();
// MPI_Init_thread and MPI_Finalize. Each is called once per process, by the main thread. Between
// the two, a failed CHECK or LOG(FATAL) on any rank ends all ranks.
void InitializeMpi();
void FinalizeMpi();
// Ends all ranks immediately with this exit code.
[[noreturn]] void AbortMpi(int exit_code);
// Rank of this process among the ranks on its host, and their number. Valid after InitializeMpi.
struct LocalRank {
  int rank;
  int size;
};
LocalRank MpiLocalRank();

// Returns the group of all ranks of the job, named 'world'. `deadline` bounds each wait for other
// ranks. `log` records the calls unless it is null; it is borrowed and must outlive the
// communicator and its groups. Collective; to be destroyed before FinalizeMpi.
std::unique_ptr<Communicator> CreateMpiWorld(absl::Duration deadline, CallLog* log = nullptr);

// Returns the channel between the watchdogs of all ranks. Collective; to be destroyed before
// FinalizeMpi.
std::unique_ptr<Messenger> CreateMpiMessenger();

}  // namespace unipool
