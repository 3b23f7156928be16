// The progress of a run on standard output.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "launch/train/step_record.h"

namespace unipool {

// Columns of the terminal that standard output is, or 0 if it is none. Ranks under mpirun write to
// a pipe, so the launcher states the columns in the environment variable UNIPOOL_TERMINAL.
int TerminalColumns();

// The numbers of a step, the most important first: step, loss, ETA, tokens/s, time of a step, time
// of day, share of the exchange that is not hidden by computation, imbalance, share of unrouted
// (token, layer) pairs, learning rate, gradient norm. Parts that do not fit into `columns` (0: any
// number) are left out.
std::string ProgressText(const StepRecord& record, int64_t total_steps, double seconds_per_step,
                         absl::Time now, absl::TimeZone zone, int columns);

// Owns the last line of standard output.
class ProgressLine {
 public:
  // `columns` is TerminalColumns(). On a terminal one line is overwritten a few times per second.
  // Elsewhere there is a new line every ten seconds, and for the first step, the last step and
  // steps with a validation.
  ProgressLine(int64_t total_steps, int columns);
  ~ProgressLine();

  // Prints the numbers of a step and the time until the last step, if a line is due.
  void Show(const StepRecord& record);
  // Prints a line of its own, above the live one.
  void PrintLine(const std::string& text);

 private:
  bool is_live() const { return columns_ > 0; }
  void ClearLiveLine();
  bool IsDue(const StepRecord& record) const;

  const int64_t total_steps_;
  const int columns_;  // 0: no terminal
  bool has_live_line_ = false;
  absl::Time last_;  // when a step was printed
  int64_t steps_seen_ = 0;
  double seconds_per_step_ = 0;  // smoothed
};

}  // namespace unipool
