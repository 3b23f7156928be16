#include "launch/train/console_report.h"

#include <glog/logging.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/run.pb.h"
#include "launch/checkpoint/folder.h"
#include "launch/world/device_choice.h"
#include "model/footprint.h"

namespace unipool {
namespace {

std::string ValidationText(const Validation& validation) {
  std::string text = absl::StrFormat("validation loss %.4f  perplexity %.3f", validation.loss,
                                     validation.perplexity());
  if (validation.bits_per_byte.has_value()) {
    absl::StrAppendFormat(&text, "  bits/byte %.4f", *validation.bits_per_byte);
  }
  return text;
}

std::string SavesText(const SaveTotals& saves) {
  const double gigabytes = static_cast<double>(saves.bytes) / 1e9;
  std::string text = absl::StrFormat("%d saved, %d failed, %.3f GB at %.2f GB/s", saves.saves,
                                     saves.failures, gigabytes, gigabytes / saves.write_seconds);
  if (saves.between_seconds > 0) {
    absl::StrAppendFormat(&text,
                          "; saving paused training for %.2f s (%.2f %% of the time between saves)",
                          saves.stall_seconds, 100 * saves.stall_seconds / saves.between_seconds);
  }
  return absl::StrCat(text, absl::StrFormat("; the final save took %.2f s", saves.final_seconds));
}

std::string MemoryText(const Arena& arena) {
  constexpr double kMiB = 1 << 20;
  return absl::StrFormat("activations use %.1f MiB at their peak, of %.1f MiB reserved",
                         static_cast<double>(arena.peak_bytes()) / kMiB,
                         static_cast<double>(arena.reserved_bytes()) / kMiB);
}

}  // namespace

ConsoleReport::ConsoleReport(const config::Run& run, const World& world, Trainer& trainer)
    : run_(run),
      world_(world),
      trainer_(trainer),
      folder_(run.run_dir()),
      progress_(run.steps(), TerminalColumns()) {}

void ConsoleReport::PrintHeader() {
  if (trainer_.resumed_from() >= 0) {
    progress_.PrintLine(absl::StrFormat("resumed after step %d of %d from %s", trainer_.step(),
                                        run_.steps(),
                                        CheckpointPath(folder_.checkpoints(), trainer_.step())));
  }
  progress_.PrintLine(absl::StrFormat(
      "%.2f M parameters (%.2f M active), %d %s, %d sequences of %d tokens a step",
      CountParameters(run_).total() / 1e6, ActiveParameters(run_) / 1e6, world_.size(),
      world_.size() == 1 ? "rank" : "ranks", run_.data().global_batch(), run_.model().sequence()));
  progress_.PrintLine(absl::StrCat("computes on ", DescribeDevice(run_, world_.device())));
  if (!HasValidation(run_.data())) {
    progress_.PrintLine(absl::StrCat("no validation: data.split = \"", run_.data().split(),
                                     "\" has no validation part"));
  }
}

void ConsoleReport::PrintNoisyConstantWarning() {
  progress_.PrintLine(absl::StrFormat(
      "warning: NormRouter's constant c = %.3g for %d experts is a noisy estimate; pin it with "
      "--set pool.router_c=%.9g",
      run_.pool().router_c(), run_.pool().experts(), run_.pool().router_c()));
}

void ConsoleReport::PrintRecord(const StepRecord& record) {
  seconds_ += record.step_seconds;
  tokens_ += record.tokens_per_second * record.step_seconds;
  if (record.step > 0 && record.has_training) {
    progress_.Show(record);
    const std::string warning = unrouted_.Add(record.unrouted_share);
    LOG_IF(WARNING, !warning.empty()) << "step " << record.step << ": " << warning;
  }
  if (record.validation.has_value()) {
    (record.step == 0 ? before_ : after_) = record.validation;
    progress_.PrintLine(
        absl::StrFormat("step %d  %s", record.step, ValidationText(*record.validation)));
  }
  if (record.test.has_value()) {
    progress_.PrintLine(absl::StrFormat("test loss %.4f  perplexity %.3f", record.test->loss,
                                        record.test->perplexity()));
  }
}

void ConsoleReport::PrintRewind(absl::string_view reason, int64_t bad_step) {
  progress_.PrintLine(
      absl::StrFormat("%s: rewound to step %d, skipping the data of %d steps (rewind %d of %d)",
                      reason, trainer_.step(), bad_step - trainer_.step(), trainer_.rewinds(),
                      run_.divergence().max_rewinds()));
}

void ConsoleReport::PrintItem(const char* name, const std::string& text) {
  progress_.PrintLine(absl::StrFormat("%-17s %s", name, text));
}

void ConsoleReport::PrintSummary(const SaveTotals& saves, const std::string& last_checkpoint) {
  progress_.PrintLine("");
  if (before_.has_value()) PrintItem("before", ValidationText(*before_));
  if (after_.has_value()) PrintItem("after", ValidationText(*after_));
  if (seconds_ > 0) {
    const bool is_resumed = trainer_.resumed_from() > 0;
    PrintItem(
        "training speed",
        absl::StrFormat("%.0f tokens/s over %.1f s%s", tokens_ / seconds_, seconds_,
                        is_resumed ? absl::StrFormat(", steps %d to %d, of this start",
                                                     trainer_.resumed_from() + 1, trainer_.step())
                                   : ""));
  } else if (trainer_.finished()) {
    PrintItem("finished", absl::StrFormat("an earlier start has trained all %d steps; set more "
                                          "steps to extend the run, or another --run-dir for a "
                                          "new one",
                                          run_.steps()));
  }
  if (world_.device() != Device{}) PrintItem("GPU memory", MemoryText(trainer_.arena()));
  if (const std::string warning = unrouted_.Summary(); !warning.empty()) {
    PrintItem("warning", warning);
  }
  if (!trainer_.finished()) {
    PrintItem("stopped", absl::StrFormat("after step %d of %d; run the same command without "
                                         "--stop-after to resume",
                                         trainer_.step(), run_.steps()));
  }
  if (!last_checkpoint.empty()) PrintItem("checkpoint", last_checkpoint);
  if (saves.saves > 0) PrintItem("checkpoints", SavesText(saves));
  PrintItem("metrics, config", absl::StrCat(folder_.metrics(), ", ", folder_.config()));
  if (run_.profile().enabled()) {
    progress_.PrintLine(absl::StrCat("\n", trainer_.profiler().Table(seconds_)));
  }
}

}  // namespace unipool
