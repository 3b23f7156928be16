// What a run prints on standard output: a header, the progress, and a summary. For the first rank.
#pragma once

#include <optional>
#include <string>

#include "launch/analysis/validation.h"
#include "launch/checkpoint/run_folder.h"
#include "launch/checkpoint/saver.h"
#include "launch/train/progress_line.h"
#include "launch/train/step_record.h"
#include "launch/train/trainer.h"
#include "launch/train/unrouted_warning.h"
#include "launch/world/world.h"

namespace unipool {

class ConsoleReport {
 public:
  // The arguments are borrowed and must outlive the report.
  ConsoleReport(const config::Run& run, const World& world, Trainer& trainer);

  // The checkpoint that the run resumes from, its size, and its device.
  void PrintHeader();
  // Warns that the router's constant is estimated for too few experts.
  void PrintNoisyConstantWarning();
  // The step and its evaluations. A step without an evaluation is printed only now and then.
  void PrintRecord(const StepRecord& record);
  // A rewind from the bad step `bad_step` to the trainer's step; `reason` is the error of the run.
  void PrintRewind(absl::string_view reason, int64_t bad_step);
  // After training. `last_checkpoint` is empty if none was saved at the end.
  void PrintSummary(const SaveTotals& saves, const std::string& last_checkpoint);

 private:
  void PrintItem(const char* name, const std::string& text);

  const config::Run& run_;
  const World& world_;
  Trainer& trainer_;
  const RunFolder folder_;
  ProgressLine progress_;
  UnroutedWarning unrouted_;
  std::optional<Validation> before_;  // before training
  std::optional<Validation> after_;   // the newest
  double tokens_ = 0;                 // trained by this process
  double seconds_ = 0;                // of its steps
};

}  // namespace unipool
