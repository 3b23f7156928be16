// Commands of several words, as `unipool data inspect`: which one, its flags, its help, its errors.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "launch/commands/command_line.h"

namespace unipool {

struct SubCommand {
  std::string name;
  std::string help;  // a line
  CommandSpec spec;  // with a flag "help"; all arguments must be given
  std::function<int(const CommandLine& line)> run;  // gives the exit code
};

// Runs the one that args[0] names, of `unipool COMMAND`. What is wrong is one line and
// kExitBadInput; --help, with or without a name, is no error.
int RunSubCommand(const std::string& command, const std::vector<SubCommand>& subs,
                  const std::vector<std::string>& args);

}  // namespace unipool
