// What the exit status of `unipool` says to the shell, to mpirun and to Slurm.
#pragma once

namespace unipool {

enum ExitCode : int {
  kExitDone = 0,
  kExitFailure = 1,   // something inside failed; the log says what
  kExitBadInput = 2,  // a flag, a config or a file; nothing was written
  kExitDiverged = 3   // the loss or a gradient is not a number
};

}  // namespace unipool
