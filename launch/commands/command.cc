#include "launch/commands/command.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "launch/commands/commands.h"
#include "launch/config/nearest_name.h"
#include "launch/world/exit_codes.h"
#include "runtime/status.h"

namespace unipool {
namespace {

std::vector<std::string> Names(const std::vector<Command>& commands) {
  std::vector<std::string> names;
  for (const Command& command : commands) names.push_back(command.name);
  return names;
}

// The command called `name`. `group` is "" or the command whose sub-commands these are.
absl::StatusOr<const Command*> Find(const std::vector<Command>& commands, const std::string& name,
                                    const std::string& group) {
  for (const Command& command : commands) {
    if (command.name == name) return &command;
  }
  if (commands.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(group, " has no sub-command \"", name, "\""));
  }
  const std::string hint = DidYouMean(name, Names(commands));
  const std::string guess = hint.empty() ? "" : hint + " ";
  if (group.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", name, "\": unknown command; ", guess, "unipool --help lists all"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(group, ": unknown sub-command \"", name, "\"; ", guess,
                   "choose one of: ", absl::StrJoin(Names(commands), ", ")));
}

// `path` is the words after "unipool", as in "data inspect".
std::string CommandHelp(const std::string& path, const Command& command) {
  if (command.subs.empty()) {
    return absl::StrCat(command.summary, "\n", UsageText("unipool " + path, command.spec));
  }
  std::string text;
  for (const Command& sub : command.subs) {
    absl::StrAppend(&text, CommandHelp(absl::StrCat(path, " ", sub.name), sub));
  }
  return text;
}

absl::StatusOr<CommandLine> ParseLine(const Command& command,
                                      const std::vector<std::string>& args) {
  ASSIGN_OR_RETURN(CommandLine line, CommandLine::Parse(args, command.spec));
  const size_t given = line.arguments().size();
  if (line.Has("help") || given >= command.spec.arguments.size()) return line;
  const std::string& missing = command.spec.arguments[given];
  if (IsOptional(missing)) return line;
  return absl::InvalidArgumentError(missing + " is missing");
}

int RunLeaf(const std::string& path, const Command& command, const std::vector<std::string>& args) {
  const absl::StatusOr<CommandLine> line = ParseLine(command, args);
  if (!line.ok()) {
    return Report(absl::InvalidArgumentError(absl::StrCat(
        path, ": ", line.status().message(), "; unipool ", path, " --help lists its flags")));
  }
  if (!line->Has("help")) return command.run(*line);
  std::fputs(CommandHelp(path, command).c_str(), stdout);
  return kExitDone;
}

bool AsksForHelp(const std::vector<std::string>& args) {
  return !args.empty() && (args[0] == "--help" || args[0] == "-h");
}

}  // namespace

int RunCommand(const std::vector<Command>& commands, const std::vector<std::string>& args) {
  absl::StatusOr<const Command*> command = Find(commands, args[0], "");
  if (!command.ok()) return Report(command.status());
  const std::vector<std::string> rest(args.begin() + 1, args.end());
  const std::string name = (*command)->name;
  const std::vector<Command>& subs = (*command)->subs;
  if (subs.empty()) return RunLeaf(name, **command, rest);
  if (AsksForHelp(rest)) {
    std::fputs(CommandHelp(name, **command).c_str(), stdout);
    return kExitDone;
  }
  if (rest.empty()) {
    return Report(absl::InvalidArgumentError(absl::StrCat(
        name, ": sub-command missing; choose one of: ", absl::StrJoin(Names(subs), ", "))));
  }
  const absl::StatusOr<const Command*> sub = Find(subs, rest[0], name);
  if (!sub.ok()) return Report(sub.status());
  return RunLeaf(absl::StrCat(name, " ", (*sub)->name), **sub, {rest.begin() + 1, rest.end()});
}

std::string ProgramHelp(const std::vector<Command>& commands) {
  std::string text = "usage: unipool COMMAND [ARGUMENTS]\n";
  for (const Command& command : commands) {
    const std::string subs = absl::StrJoin(Names(command.subs), " | ");
    absl::StrAppendFormat(&text, "  %-12s%s%s%s\n", command.name, subs, subs.empty() ? "" : ": ",
                          command.summary);
  }
  absl::StrAppend(&text, "unipool COMMAND --help describes a command and its flags.\n");
  return text;
}

absl::StatusOr<std::string> HelpText(const std::vector<Command>& commands,
                                     const std::vector<std::string>& path) {
  if (path.empty()) return ProgramHelp(commands);
  ASSIGN_OR_RETURN(const Command* command, Find(commands, path[0], ""));
  std::string words = command->name;
  for (size_t i = 1; i < path.size(); ++i) {
    ASSIGN_OR_RETURN(command, Find(command->subs, path[i], words));
    absl::StrAppend(&words, " ", command->name);
  }
  return CommandHelp(words, *command);
}

}  // namespace unipool
