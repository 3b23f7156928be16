#include "launch/train/chunk_trial.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_format.h"

namespace unipool {
namespace {

constexpr int kMaxTried = 8;
constexpr int kWarmSteps = 2;  // the first steps are slow whatever is tried
constexpr int kRounds = 3;     // candidates take turns, so that what drifts meets all of them
constexpr double kNoise = 0.01;

}  // namespace

ChunkTrial::ChunkTrial(int setting, int most) {
  if (setting > 0) chunks_ = setting;
  if (setting > 0 || most == 1) return;
  for (int chunks = 1; chunks <= std::min(most, kMaxTried); chunks *= 2) {
    candidates_.push_back({chunks, std::numeric_limits<double>::infinity()});
  }
  settled_ = false;
}

void ChunkTrial::Note(double seconds) {
  if (settled_) return;
  const int candidates = static_cast<int>(candidates_.size()), tried = noted_++ - kWarmSteps;
  if (tried >= 0) {
    double& best = candidates_[static_cast<size_t>(tried % candidates)].best_seconds;
    best = std::min(best, seconds);
  }
  if (tried + 1 == kRounds * candidates) return Settle();
  if (tried + 1 >= 0) chunks_ = candidates_[static_cast<size_t>((tried + 1) % candidates)].chunks;
}

// More chunks have to be worth it.
void ChunkTrial::Settle() {
  double least = candidates_[0].best_seconds;
  for (const Candidate& candidate : candidates_) least = std::min(least, candidate.best_seconds);
  for (const Candidate& candidate : candidates_) {
    if (candidate.best_seconds > least * (1 + kNoise)) continue;
    chunks_ = candidate.chunks;
    break;
  }
  settled_ = true;
}

std::string ChunkTrial::ToString() const {
  std::string words = absl::StrFormat("%d", chunks_);
  if (candidates_.empty() || !settled_) return words;
  std::string others;
  for (const Candidate& candidate : candidates_) {
    if (candidate.chunks == chunks_) {
      absl::StrAppendFormat(&words, " (%.4g s a step", candidate.best_seconds);
    } else {
      absl::StrAppendFormat(&others, "%s %d: %.4g s", others.empty() ? ";" : ",", candidate.chunks,
                            candidate.best_seconds);
    }
  }
  return words + others + ")";
}

}  // namespace unipool
