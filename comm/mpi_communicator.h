// Ranks that are processes under mpirun or srun, over MPI.
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

// True when this process was started by mpirun or srun with a PMI that Open MPI understands.
bool LaunchedByMpi();
// May be called before InitializeMpi and after FinalizeMpi.
LibraryVersion MpiVersion();
// MPI_Init_thread and MPI_Finalize; once a process, from the main thread.
void InitializeMpi();
void FinalizeMpi();
// Ends all ranks at once with this exit code.
[[noreturn]] void AbortMpi(int exit_code);
// Rank among the ranks on this host, and how many those are. After InitializeMpi.
struct LocalRank {
  int rank;
  int size;
};
LocalRank MpiLocalRank();

// All ranks of the job. `deadline` bounds each wait for other ranks. Calls are noted in `log`,
// which is borrowed and may be null.
std::unique_ptr<Communicator> CreateMpiWorld(absl::Duration deadline, CallLog* log = nullptr);

// Between the watchdogs of all ranks. Collective; to be destroyed before FinalizeMpi.
std::unique_ptr<Messenger> CreateMpiMessenger();

}  // namespace unipool
