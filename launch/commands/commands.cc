#include "launch/commands/commands.h"

#include <iostream>

#include "absl/strings/str_cat.h"
#include "launch/world/exit_codes.h"
#include "launch/world/world.h"

namespace unipool {

int Report(const absl::Status& status) {
  if (status.ok()) return kExitDone;
  const bool diverged = status.code() == absl::StatusCode::kOutOfRange;
  const bool bad_input = status.code() == absl::StatusCode::kInvalidArgument ||
                         status.code() == absl::StatusCode::kFailedPrecondition ||
                         status.code() == absl::StatusCode::kNotFound ||
                         status.code() == absl::StatusCode::kAlreadyExists ||
                         status.code() == absl::StatusCode::kPermissionDenied ||
                         status.code() == absl::StatusCode::kDataLoss;
  if (MustReport(status)) {
    // One write, so that no other process's words come in between.
    std::cerr << absl::StrCat("unipool: ", status.message(), "\n") << std::flush;
  }
  if (status.code() == absl::StatusCode::kCancelled) return kExitRunAgain;
  // Before there was a watchdog to end this rank.
  if (status.code() == absl::StatusCode::kAborted) return kExitLostPeer;
  if (status.code() == absl::StatusCode::kDeadlineExceeded) return kExitHang;
  if (diverged) return kExitDiverged;
  return bad_input ? kExitBadInput : kExitFailure;
}

}  // namespace unipool
