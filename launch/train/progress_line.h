// The progress of a run on standard output.
#pragma once

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "launch/train/step_record.h"

namespace unipool {

enum class ProgressStyle {
  kLive,   // a terminal: one line that is overwritten a few times per second
  kLines,  // a file or a pipe: a new line every ten seconds, and for the first step, the last step
           // and steps with a validation
};

// kLive if standard output is a terminal. Ranks under mpirun write to a pipe, so the launcher
// states it in the environment variable UNIPOOL_TERMINAL (1 or 0).
ProgressStyle DetectProgressStyle();

// Owns the last line of standard output.
class ProgressLine {
 public:
  ProgressLine(int64_t total_steps, ProgressStyle style);
  ~ProgressLine();

  // Prints the numbers of a step and the time until the last step, if a line is due.
  void Show(const StepRecord& record);
  // Prints a line of its own, above the live one.
  void PrintLine(const std::string& text);

 private:
  void ClearLiveLine();
  bool IsDue(const StepRecord& record) const;

  const int64_t total_steps_;
  const bool live_;
  bool has_live_line_ = false;
  absl::Time last_;  // when a step was printed
  int64_t steps_seen_ = 0;
  double seconds_per_step_ = 0;  // smoothed
};

}  // namespace unipool
