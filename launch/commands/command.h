// One command of the program with its description, and how the program finds and runs it.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "launch/commands/command_line.h"

namespace unipool {

// `unipool NAME`, or `unipool NAME SUB` for each of its sub-commands.
struct Command {
  std::string name;
  std::string summary;    // one line for lists and as the first line of its help
  CommandSpec spec = {};  // with a flag "help"; unused if there are sub-commands
  std::function<int(const CommandLine& line)> run = {};  // returns the exit code
  std::vector<Command> subs = {};
};

// Runs the command that args[0] names with the words after it and returns its exit code. A usage
// error prints one line and returns kExitBadInput. --help or -h prints help and returns kExitDone.
int RunCommand(const std::vector<Command>& commands, const std::vector<std::string>& args);

// Help of the program: one line for each command.
std::string ProgramHelp(const std::vector<Command>& commands);
// Help of the command or sub-command that `path` names, as in {"data", "inspect"}; of the program
// if `path` is empty. INVALID_ARGUMENT if there is no such command.
absl::StatusOr<std::string> HelpText(const std::vector<Command>& commands,
                                     const std::vector<std::string>& path);

}  // namespace unipool
