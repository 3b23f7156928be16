#include "launch/commands/commands.h"

#include <algorithm>
#include <iostream>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "launch/world/exit_codes.h"
#include "launch/world/world.h"

namespace unipool {

std::vector<Command> AllCommands() {
  return {TrainCommand(), ConfigCommand(), CheckpointCommand(), DataCommand(), EvaluateCommand(),
          ScoreCommand(), ProbeCommand(),  BenchCommand(),      HelpCommand(), VersionCommand()};
}

namespace {

// One line of at most 4,000 bytes: words of more than 300 bytes, such as a path that nobody typed,
// are cut, and control characters are spaces.
std::string OneLine(absl::string_view message) {
  constexpr size_t kMaxWord = 300, kMaxLine = 4000;
  std::string line;
  for (const absl::string_view word : absl::StrSplit(message, ' ')) {
    if (!line.empty()) line += ' ';
    absl::StrAppend(&line, word.substr(0, kMaxWord), word.size() > kMaxWord ? "..." : "");
  }
  if (line.size() > kMaxLine) line = line.substr(0, kMaxLine) + "...";
  std::replace_if(line.begin(), line.end(), absl::ascii_iscntrl, ' ');
  return line;
}

}  // namespace

int Report(const absl::Status& status) {
  if (status.ok()) return kExitDone;
  if (MustReport(status)) {
    // A single write, so that lines of other processes do not mix with it.
    std::cerr << absl::StrCat("unipool: ", OneLine(status.message()), "\n") << std::flush;
  }
  switch (status.code()) {
    case absl::StatusCode::kCancelled:
      return kExitRunAgain;
    case absl::StatusCode::kAborted:  // a rank was lost before the watchdog was started
      return kExitLostPeer;
    case absl::StatusCode::kDeadlineExceeded:
      return kExitHang;
    case absl::StatusCode::kOutOfRange:
      return kExitDiverged;
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kAlreadyExists:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kDataLoss:
      return kExitBadInput;
    default:
      return kExitFailure;
  }
}

}  // namespace unipool
