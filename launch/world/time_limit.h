// When a run has to end by itself: before a limit that somebody else enforces.
#pragma once

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace unipool {

// "3h50m", "45m", "90s" or, as Slurm writes it, "HH:MM:SS" or "DAYS-HH:MM:SS". INVALID_ARGUMENT
// otherwise, and for nothing or less.
absl::StatusOr<absl::Duration> ParseTimeLimit(absl::string_view text);

// When this job was started: launch/mpirun.sh says so in UNIPOOL_STARTED (seconds since 1970), so
// that its restarts share one limit; otherwise the start of this process.
absl::Time JobStart();

// Knows when one more step and a save may no longer fit before `end`. The times of steps and saves
// are measured; the longest counts, forgotten slowly. One thread calls it.
class TimeLimit {
 public:
  // `save`: what the first save may take.
  TimeLimit(absl::Time end, absl::Duration save) : end_(end), save_(save) {}

  void NoteStep(absl::Duration step);
  void NoteSave(absl::Duration save);
  bool IsNear(absl::Time now) const;

 private:
  absl::Time end_;
  absl::Duration save_;
  absl::Duration step_ = absl::ZeroDuration();
};

}  // namespace unipool
