#include "launch/commands/commands.h"

#include <iostream>

#include "absl/strings/str_cat.h"
#include "launch/world/exit_codes.h"
#include "launch/world/world.h"
#include "runtime/quote.h"

namespace unipool {

std::vector<Command> AllCommands() {
  return {TrainCommand(), ConfigCommand(), CheckpointCommand(), DataCommand(), EvaluateCommand(),
          ScoreCommand(), ProbeCommand(),  BenchCommand(),      HelpCommand(), VersionCommand()};
}

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
