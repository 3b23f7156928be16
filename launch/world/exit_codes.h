// The exit status of `unipool` and of launch/mpirun.sh, for the shell, Slurm and restart loops.
// launch/operations.md has the same table.
#pragma once

namespace unipool {

enum ExitCode : int {
  kExitDone = 0,
  kExitFailure = 1,        // an internal failure; the log has the details
  kExitBadInput = 2,       // a flag, a config or a file is bad; nothing is written
  kExitDiverged = 3,       // the loss or a gradient is not finite
  kExitRunAgain = 75,      // stopped on request and saved; the same command resumes
  kExitLostPeer = 76,      // a rank, its host or the connection to it is lost
  kExitHang = 77,          // a rank did not arrive within parallel.deadline_seconds
  kExitInterrupted = 130,  // second SIGINT: exited at once, nothing is saved
};

}  // namespace unipool
