// Ends a run in time before a limit that a batch system enforces.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace unipool {

// Parses "3h50m", "45m", "90s" or, in Slurm's notation, "HH:MM:SS" or "DAYS-HH:MM:SS".
// INVALID_ARGUMENT if the text is none of these or the time is not positive.
absl::StatusOr<absl::Duration> ParseTimeLimit(absl::string_view text);

// The start of this job. launch/mpirun.sh sets it in UNIPOOL_STARTED (seconds since 1970) so that
// its restarts share one limit; without it, the start of this process.
absl::Time JobStart();

// Decides when one more step and a save may no longer fit before `end`. The estimate of a step is
// the longest measured one, which decays slowly; that of a save is the last measured one. Not
// thread-safe.
class TimeLimit {
 public:
  // `save` is the estimate for the first save.
  TimeLimit(absl::Time end, absl::Duration save) : end_(end), save_(save) {}

  void AddStep(absl::Duration step);
  void SetSave(absl::Duration save);
  bool IsNear(absl::Time now) const;

 private:
  absl::Time end_;
  absl::Duration save_;
  absl::Duration step_ = absl::ZeroDuration();
};

}  // namespace unipool
