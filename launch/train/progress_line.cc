#include "launch/train/progress_line.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_format.h"
#include "runtime/clock.h"

namespace unipool {
namespace {

std::string EtaText(double seconds) {
  const int64_t whole = std::llround(seconds);
  if (whole >= 3600) return absl::StrFormat("%dh%02dm", whole / 3600, whole / 60 % 60);
  if (whole >= 60) return absl::StrFormat("%dm%02ds", whole / 60, whole % 60);
  return absl::StrFormat("%ds", whole);
}

}  // namespace

ProgressStyle DetectProgressStyle() {
  bool live = std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr && isatty(STDOUT_FILENO) == 1;
  if (const char* stated = std::getenv("UNIPOOL_TERMINAL")) live = std::strcmp(stated, "1") == 0;
  return live ? ProgressStyle::kLive : ProgressStyle::kLines;
}

ProgressLine::ProgressLine(int64_t total_steps, ProgressStyle style)
    : total_steps_(total_steps),
      live_(style == ProgressStyle::kLive),
      last_(absl::InfinitePast()) {}

ProgressLine::~ProgressLine() {
  if (live_ && has_live_line_) std::fputc('\n', stdout);
}

bool ProgressLine::IsDue(const StepRecord& record) const {
  if (record.step == total_steps_ || record.step == 1) return true;
  if (!live_ && record.validation.has_value()) return true;
  return SteadyNow() - last_ >= (live_ ? absl::Milliseconds(200) : absl::Seconds(10));
}

void ProgressLine::Show(const StepRecord& record) {
  // The first two steps of a process are slower than the others.
  seconds_per_step_ = ++steps_seen_ <= 2 ? record.step_seconds
                                         : 0.9 * seconds_per_step_ + 0.1 * record.step_seconds;
  if (!IsDue(record)) return;
  last_ = SteadyNow();
  std::string line = absl::StrFormat(
      "step %d/%d  loss %.4f  lr %.2e  norm %.2f  %.0f tokens/s  ETA %s", record.step, total_steps_,
      record.lm_loss, record.lr, record.grad_norm, record.tokens_per_second,
      EtaText(seconds_per_step_ * static_cast<double>(total_steps_ - record.step)));
  if (record.layer_imbalance > 0) {
    absl::StrAppendFormat(&line, "  imbalance layer %.2f pool %.2f", record.layer_imbalance,
                          record.pool_imbalance);
  }
  if (record.unrouted_share >= 0.01) {
    absl::StrAppendFormat(&line, "  unrouted %.0f%%", 100 * record.unrouted_share);
  }
  ClearLiveLine();
  std::fputs(line.c_str(), stdout);
  if (!live_) std::fputc('\n', stdout);
  std::fflush(stdout);
  has_live_line_ = true;
}

void ProgressLine::PrintLine(const std::string& text) {
  ClearLiveLine();
  std::fputs((text + "\n").c_str(), stdout);
  std::fflush(stdout);
  has_live_line_ = false;
}

void ProgressLine::ClearLiveLine() {
  if (live_) std::fputs("\r\033[K", stdout);
}

}  // namespace unipool
