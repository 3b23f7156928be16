// The signals that ask a run to stop early: SIGUSR1 (sent by Slurm before its time limit, and by
// launch/mpirun.sh for all of these), SIGUSR2 (LSF, submitit), SIGXCPU (the soft limits of SGE, PBS
// and LSF, and `ulimit -t`), SIGHUP (a closed terminal), SIGTERM and SIGINT. The handlers only set
// flags. The training loop polls them, stops after a complete step, saves and exits with
// kExitRunAgain.
#pragma once

namespace unipool {

// Installs the handlers. A second SIGINT ends the process at once with kExitInterrupted. SIGHUP
// stays ignored if it was ignored at the start, as under nohup.
void WatchSignals();

// Makes a write beyond `ulimit -f` an error of that write (EFBIG) instead of the end of the
// process.
void IgnoreFileSizeSignal();
// The same for a write to a pipe whose reader has gone (EPIPE): a run continues without a reader of
// its progress. Commands whose product is their output keep the signal.
void IgnorePipeSignal();

// The first of these signals that was received; 0 if there was none.
int ReceivedSignal();
// Number of SIGQUITs, or SIGALRMs as launch/mpirun.sh sends them, that were received: each asks
// every rank to log what it does. The run continues.
int StateRequests();
// True if SIGTERM was received. A launcher also sends it shortly before SIGKILL.
bool SigtermReceived();

// The name of one of the signals above, such as "SIGUSR1".
const char* SignalName(int signal);

}  // namespace unipool
