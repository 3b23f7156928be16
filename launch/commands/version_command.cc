// `unipool version` and `unipool --version`.
#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launch/commands/commands.h"
#include "launch/commands/reports_json.h"
#include "launch/commands/run_flags.h"
#include "launch/world/exit_codes.h"
#include "launch/world/version.h"

namespace unipool {
namespace {

std::string VersionText() {
  std::string text = absl::StrCat("unipool ", VersionLine(), "\n");
  for (const auto& [name, version] : LibraryVersions()) {
    absl::StrAppendFormat(&text, "  %-10s", name);
    if (version.built.empty()) {
      absl::StrAppend(&text, "not in this build\n");
    } else {
      absl::StrAppend(&text, "built with ", version.built,
                      "; found: ", version.found.empty() ? "unknown" : version.found, "\n");
    }
  }
  return text;
}

int Run(const CommandLine& line) {
  std::fputs((line.Has("json") ? VersionJsonText() : VersionText()).c_str(), stdout);
  return kExitDone;
}

}  // namespace

Command VersionCommand() {
  return {.name = "version",
          .summary = "prints the version, git revision, compiler and libraries (also --version)",
          .spec = {.flags = {{"json", "", "prints one JSON object instead of text"}, HelpFlag()}},
          .run = &Run};
}

}  // namespace unipool
