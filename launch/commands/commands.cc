#include "launch/commands/commands.h"

#include <iostream>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "launch/world/exit_codes.h"
#include "launch/world/world.h"
#include "runtime/quote.h"

namespace unipool {

std::vector<Command> AllCommands() {
  return {TrainCommand(),    ConfigCommand(), CheckpointCommand(), DataCommand(),
          EvaluateCommand(), ScoreCommand(),  ProbeCommand(),      BenchCommand(),
          StatusCommand(),   HelpCommand(),   VersionCommand()};
}

namespace {

// The message in at most 4,000 bytes. Words of more than 300 bytes, such as a path that nobody
// typed, are cut.
std::string Shortened(absl::string_view message) {
  constexpr size_t kMaxWord = 300, kMaxBytes = 4000;
  std::string text;
  for (const absl::string_view word : absl::StrSplit(message, ' ')) {
    if (!text.empty()) text += ' ';
    absl::StrAppend(&text, word.substr(0, kMaxWord), word.size() > kMaxWord ? "..." : "");
  }
  return text.size() > kMaxBytes ? text.substr(0, kMaxBytes) + "..." : text;
}

}  // namespace

int Report(const absl::Status& status) {
  if (status.ok()) return kExitDone;
  if (MustReport(status)) {
    // A single write, so that lines of other processes do not mix with it.
    std::cerr << absl::StrCat("unipool: ", OneLine(Shortened(status.message())), "\n")
              << std::flush;
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
