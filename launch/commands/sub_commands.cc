#include "launch/commands/sub_commands.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_cat.h"
#include "launch/commands/commands.h"
#include "launch/config/nearest_name.h"
#include "launch/world/exit_codes.h"

namespace unipool {
namespace {

// "a, b or c".
std::string Choice(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    const bool is_last = i + 1 == names.size();
    absl::StrAppend(&text, i == 0 ? "" : is_last ? " or " : ", ", names[i]);
  }
  return text;
}

absl::Status NoSuchName(const std::string& command, const std::vector<SubCommand>& subs,
                        const std::vector<std::string>& args) {
  std::vector<std::string> names;
  for (const SubCommand& sub : subs) names.push_back(sub.name);
  const std::string expected = absl::StrCat(command, ": expected ", Choice(names), ", got ");
  if (args.empty()) return absl::InvalidArgumentError(expected + "nothing");
  const std::string hint = DidYouMean(args[0], names);
  return absl::InvalidArgumentError(absl::StrCat(
      expected, "\"", args[0], "\"", hint.empty() ? "" : " (", hint, hint.empty() ? "" : ")"));
}

std::string Usage(const std::string& command, const SubCommand& sub) {
  return absl::StrCat(sub.help, "\n",
                      UsageText(absl::StrCat("unipool ", command, " ", sub.name), sub.spec));
}

}  // namespace

int RunSubCommand(const std::string& command, const std::vector<SubCommand>& subs,
                  const std::vector<std::string>& args) {
  if (!args.empty() && args[0] == "--help") {
    for (const SubCommand& sub : subs) std::fputs(Usage(command, sub).c_str(), stdout);
    return kExitDone;
  }
  const auto sub = std::find_if(subs.begin(), subs.end(), [&args](const SubCommand& one) {
    return !args.empty() && one.name == args[0];
  });
  if (sub == subs.end()) return Report(NoSuchName(command, subs, args));
  const absl::StatusOr<CommandLine> line =
      CommandLine::Parse({args.begin() + 1, args.end()}, sub->spec);
  if (!line.ok()) return Report(line.status());
  if (line->Has("help")) {
    std::fputs(Usage(command, *sub).c_str(), stdout);
    return kExitDone;
  }
  const size_t given = line->arguments().size();
  if (given < sub->spec.arguments.size()) {
    return Report(absl::InvalidArgumentError(
        absl::StrCat(command, " ", sub->name, ": ", sub->spec.arguments[given], " is missing")));
  }
  return sub->run(*line);
}

}  // namespace unipool
