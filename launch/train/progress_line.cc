#include "launch/train/progress_line.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
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

int TerminalColumns() {
  constexpr int kUnknown = 80;
  if (const char* stated = std::getenv("UNIPOOL_TERMINAL")) {
    int columns = 0;
    if (!absl::SimpleAtoi(stated, &columns) || columns < 0) return 0;
    return columns == 1 ? kUnknown : columns;  // 1 means a terminal
  }
  if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || isatty(STDOUT_FILENO) != 1) return 0;
  struct winsize size = {};
  const bool is_known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return is_known ? size.ws_col : kUnknown;
}

std::string ProgressText(const StepRecord& record, int64_t total_steps, double seconds_per_step,
                         absl::Time now, absl::TimeZone zone, int columns) {
  const double left = seconds_per_step * static_cast<double>(total_steps - record.step);
  std::vector<std::string> parts = {
      absl::StrFormat("step %d/%d", record.step, total_steps),
      absl::StrFormat("loss %.4f", record.lm_loss),
      absl::StrCat("ETA ", EtaText(left)),
      absl::StrFormat("%.0f tokens/s", record.tokens_per_second),
      absl::StrFormat("%.*f ms", record.step_seconds < 0.1 ? 1 : 0, 1000 * record.step_seconds),
      absl::FormatTime("%H:%M:%S", now, zone)};
  if (record.exposed_comm_seconds > 0 && record.step_seconds > 0) {
    parts.push_back(
        absl::StrFormat("comm %.0f%%", 100 * record.exposed_comm_seconds / record.step_seconds));
  }
  if (record.layer_imbalance > 0) {
    parts.push_back(absl::StrFormat("imbalance layer %.2f pool %.2f", record.layer_imbalance,
                                    record.pool_imbalance));
  }
  if (record.unrouted_share >= 0.01) {
    parts.push_back(absl::StrFormat("unrouted %.0f%%", 100 * record.unrouted_share));
  }
  parts.push_back(absl::StrFormat("lr %.2e", record.lr));
  parts.push_back(absl::StrFormat("norm %.2f", record.grad_norm));
  std::string line;
  for (const std::string& part : parts) {
    const size_t length = line.size() + part.size() + (line.empty() ? 0 : 2);
    if (columns > 0 && length >= static_cast<size_t>(columns)) continue;
    absl::StrAppend(&line, line.empty() ? "" : "  ", part);
  }
  return line;
}

ProgressLine::ProgressLine(int64_t total_steps, int columns)
    : total_steps_(total_steps), columns_(columns), last_(absl::InfinitePast()) {}

ProgressLine::~ProgressLine() {
  if (is_live() && has_live_line_) std::fputc('\n', stdout);
}

bool ProgressLine::IsDue(const StepRecord& record) const {
  if (record.step == total_steps_ || record.step == 1) return true;
  if (!is_live() && record.validation.has_value()) return true;
  return SteadyNow() - last_ >= (is_live() ? absl::Milliseconds(200) : absl::Seconds(10));
}

void ProgressLine::Show(const StepRecord& record) {
  // The first two steps of a process are slower than the others.
  seconds_per_step_ = ++steps_seen_ <= 2 ? record.step_seconds
                                         : 0.9 * seconds_per_step_ + 0.1 * record.step_seconds;
  if (!IsDue(record)) return;
  last_ = SteadyNow();
  const std::string line = ProgressText(record, total_steps_, seconds_per_step_, absl::Now(),
                                        absl::LocalTimeZone(), columns_);
  ClearLiveLine();
  std::fputs(line.c_str(), stdout);
  if (!is_live()) std::fputc('\n', stdout);
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
  if (is_live()) std::fputs("\r\033[K", stdout);
}

}  // namespace unipool
