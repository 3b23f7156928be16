// How a run is asked to end early: SIGUSR1 (Slurm's warning, and what launch/mpirun.sh makes of a
// SIGTERM or SIGINT of its own), SIGTERM and SIGINT. The handlers only note it; the work polls,
// ends where its state is whole, saves and leaves with kExitRunAgain.
#pragma once

namespace unipool {

// Signals are noted from here on. A second SIGINT ends the process at once, with
// kExitInterrupted.
void WatchSignals();

// The first signal noted, 0 while there was none.
int NotedSignal();
// True once SIGTERM came, which a launcher also sends before it kills.
bool TerminationNoted();

// "SIGUSR1"; of the signals above.
const char* SignalName(int signal);

}  // namespace unipool
