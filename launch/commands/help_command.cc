// `unipool help`: help of a command, the man page, and completion scripts of shells.
#include <cstdio>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "launch/commands/commands.h"
#include "launch/commands/completion.h"
#include "launch/commands/man_page.h"
#include "launch/commands/run_flags.h"
#include "runtime/status.h"

namespace unipool {
namespace {

absl::StatusOr<std::string> Text(const CommandLine& line) {
  const std::vector<Command> commands = AllCommands();
  if (line.Has("man")) return ManPage(commands);
  if (line.Has("bash")) return BashCompletion(commands);
  if (line.Has("zsh")) return ZshCompletion(commands);
  return HelpText(commands, line.arguments());
}

absl::Status Help(const CommandLine& line) {
  ASSIGN_OR_RETURN(const std::string text, Text(line));
  std::fputs(text.c_str(), stdout);
  return absl::OkStatus();
}

}  // namespace

Command HelpCommand() {
  return {.name = "help",
          .summary = "prints the help of a command (also COMMAND --help)",
          .spec = {.flags = {{"man", "", "prints the man page, in man(7) macros"},
                             {"bash", "", "prints the completion script of bash"},
                             {"zsh", "", "prints the completion script of zsh"},
                             HelpFlag()},
                   .arguments = {"[COMMAND]", "[SUBCOMMAND]"}},
          .run = [](const CommandLine& line) { return Report(Help(line)); }};
}

}  // namespace unipool
