#include "launch/world/time_limit.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/clock.h"

namespace unipool {
namespace {

// Parses HH:MM:SS.
bool ParseClock(absl::string_view text, absl::Duration* duration) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, ':');
  int hours = 0, minutes = 0, seconds = 0;
  if (parts.size() != 3 || !absl::SimpleAtoi(parts[0], &hours) ||
      !absl::SimpleAtoi(parts[1], &minutes) || !absl::SimpleAtoi(parts[2], &seconds)) {
    return false;
  }
  if (hours < 0 || minutes < 0 || minutes > 59 || seconds < 0 || seconds > 59) return false;
  *duration = absl::Hours(hours) + absl::Minutes(minutes) + absl::Seconds(seconds);
  return true;
}

bool ParseSlurmTime(absl::string_view text, absl::Duration* duration) {
  const std::vector<absl::string_view> parts = absl::StrSplit(text, absl::MaxSplits('-', 1));
  if (parts.size() == 1) return ParseClock(text, duration);
  int days = 0;
  if (!absl::SimpleAtoi(parts[0], &days) || days < 0 || !ParseClock(parts[1], duration)) {
    return false;
  }
  *duration += 24 * absl::Hours(days);
  return true;
}

}  // namespace

absl::StatusOr<absl::Duration> ParseTimeLimit(absl::string_view text) {
  absl::Duration duration;
  const bool is_duration =
      ParseSlurmTime(text, &duration) || absl::ParseDuration(std::string(text), &duration);
  if (is_duration && duration > absl::ZeroDuration() && duration < absl::InfiniteDuration()) {
    return duration;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--time-limit ", text,
      " is not a time above 0; write it like 3h50m, 45m, 90s or 1-02:00:00 (days-hh:mm:ss)"));
}

absl::Time JobStart() {
  static const absl::Time process_start = SteadyNow();
  const char* text = std::getenv("UNIPOOL_STARTED");
  int64_t seconds = 0;
  if (text == nullptr || !absl::SimpleAtoi(text, &seconds)) return process_start;
  // A start in the future comes from a clock that was set back, or from another host.
  return std::min(absl::FromUnixSeconds(seconds), process_start);
}

void TimeLimit::AddStep(absl::Duration step) { step_ = std::max(step, 0.95 * step_); }

void TimeLimit::SetSave(absl::Duration save) { save_ = save; }

// Twice the estimates: the file system or another job on the host may be slow at that time.
bool TimeLimit::IsNear(absl::Time now) const { return now + 2 * (step_ + save_) >= end_; }

}  // namespace unipool
