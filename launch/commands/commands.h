// The table of the program's commands, from which they run and from which help, the man page and
// the shell completions are written.
#pragma once

#include <vector>

#include "absl/status/status.h"
#include "launch/commands/command.h"

namespace unipool {

// All commands, in the order of the program's help.
std::vector<Command> AllCommands();

Command TrainCommand();
Command ConfigCommand();
Command CheckpointCommand();
Command DataCommand();
Command EvaluateCommand();
Command ScoreCommand();
Command ProbeCommand();
Command BenchCommand();
Command StatusCommand();
Command HelpCommand();
Command VersionCommand();

// Prints an error as one line on standard error, unless another rank reports it, and returns the
// exit code of its kind.
int Report(const absl::Status& status);

}  // namespace unipool
