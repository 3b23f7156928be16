#include "data/prepare/prepare_progress.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "absl/strings/str_format.h"

namespace unipool {
namespace {

constexpr std::chrono::milliseconds kTerminalInterval(500), kLogInterval(10'000);

}  // namespace

PrepareProgress::PrepareProgress(int64_t total_file_bytes)
    : total_file_bytes_(total_file_bytes),
      is_terminal_(isatty(STDERR_FILENO) != 0),
      start_(Clock::now()),
      next_(start_ + (is_terminal_ ? kTerminalInterval : kLogInterval)) {}

PrepareProgress::~PrepareProgress() {
  if (is_terminal_) std::fputs("\r\033[K", stderr);
}

void PrepareProgress::Show(const Done& done) {
  const auto now = Clock::now();
  if (now < next_) return;
  next_ = now + (is_terminal_ ? kTerminalInterval : kLogInterval);
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const std::string text = ProgressText(done, total_file_bytes_, seconds);
  if (is_terminal_) {
    absl::FPrintF(stderr, "\r\033[K%s", text);
  } else {
    absl::FPrintF(stderr, "%s\n", text);
  }
  std::fflush(stderr);
}

std::string ProgressText(const PrepareProgress::Done& done, int64_t total_file_bytes,
                         double seconds) {
  constexpr int kBarWidth = 20;
  constexpr double kMegabyte = 1e6;
  const double speed = static_cast<double>(done.text_bytes) / kMegabyte / std::max(seconds, 1e-9);
  if (total_file_bytes == PrepareProgress::kUnknownBytes) {
    return absl::StrFormat("%.1f MB read, %.1f MB/s of text, %d documents",
                           static_cast<double>(done.file_bytes) / kMegabyte, speed, done.documents);
  }
  const double total = std::max(static_cast<double>(total_file_bytes), 1.0);
  const double share = std::min(static_cast<double>(done.file_bytes) / total, 1.0);
  const int filled = static_cast<int>(share * kBarWidth);
  std::string text = absl::StrFormat("[%s%s] %3.0f %% of %.1f MB, %.1f MB/s of text, %d documents",
                                     std::string(filled, '#'), std::string(kBarWidth - filled, '-'),
                                     100 * share, total / kMegabyte, speed, done.documents);
  if (share == 0) return text;
  const int64_t eta = std::llround(seconds * (1 - share) / share);
  if (eta >= 3600) {
    absl::StrAppendFormat(&text, ", ETA %d:%02d:%02d", eta / 3600, eta / 60 % 60, eta % 60);
  } else {
    absl::StrAppendFormat(&text, ", ETA %d:%02d", eta / 60, eta % 60);
  }
  return text;
}

}  // namespace unipool
