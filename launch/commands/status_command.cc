// `unipool status RUN...`: what runs do, read from their folders.
#include <algorithm>
#include <cstdio>
#include <string>

#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/run_flags.h"
#include "launch/train/run_status.h"
#include "launch/world/exit_codes.h"
#include "runtime/json.h"

namespace unipool {
namespace {

// A folder that holds no run does not hide the others.
int PrintStatus(const CommandLine& line) {
  int exit_code = kExitDone;
  for (const std::string& run_dir : line.arguments()) {
    const absl::StatusOr<Json> status = ReadRunStatus(run_dir);
    if (!status.ok()) {
      exit_code = Report(status.status());
      continue;
    }
    std::puts((line.Has("json") ? status->Dump() : StatusLine(*status)).c_str());
  }
  return exit_code;
}

}  // namespace

Command StatusCommand() {
  return {.name = "status",
          .summary =
              "prints whether runs are running, finished, stopped, failed or killed, their "
              "step, ETA and newest good checkpoint",
          .spec = {.flags = {{"json", "", "prints one JSON object per run instead of text"},
                             HelpFlag()},
                   .arguments = {"RUN..."}},
          .run = &PrintStatus};
}

}  // namespace unipool
