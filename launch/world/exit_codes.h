// What the exit status of `unipool`, and of launch/mpirun.sh, says to the shell, to Slurm and to a
// restart loop. The table for people: launch/README.md.
#pragma once

namespace unipool {

enum ExitCode : int {
  kExitDone = 0,
  kExitFailure = 1,        // something inside failed; the log says what
  kExitBadInput = 2,       // a flag, a config or a file; nothing was written
  kExitDiverged = 3,       // the loss or a gradient is not a number
  kExitRunAgain = 75,      // asked to leave; saved: the same command goes on from there
  kExitLostPeer = 76,      // a rank, its host or the way to it is gone
  kExitHang = 77,          // a rank did not come within parallel.deadline_seconds
  kExitInterrupted = 130,  // a second SIGINT: left at once, nothing saved
};

}  // namespace unipool
