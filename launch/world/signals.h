// The signals that ask a run to stop early: SIGUSR1 (sent by Slurm before its time limit, and by
// launch/mpirun.sh when it receives SIGTERM or SIGINT), SIGTERM and SIGINT. The handlers only set
// flags. The training loop polls them, stops after a complete step, saves and exits with
// kExitRunAgain.
#pragma once

namespace unipool {

// Installs the handlers. A second SIGINT ends the process at once with kExitInterrupted.
void WatchSignals();

// The first of these signals that was received; 0 if there was none.
int ReceivedSignal();
// True if SIGTERM was received. A launcher also sends it shortly before SIGKILL.
bool SigtermReceived();

// The name of one of the signals above, such as "SIGUSR1".
const char* SignalName(int signal);

}  // namespace unipool
