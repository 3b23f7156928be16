#include "launch/train/chunk_trial.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_format.h"

namespace unipool {
namespace {

constexpr int kMaxTried = 8;
constexpr int kWarmSteps = 2;    // the first steps are slow with any number of chunks
constexpr int kRounds = 3;       // candidates take turns, so that drift affects all of them
constexpr double kNoise = 0.01;  // of a step's time

}  // namespace

ChunkTrial::ChunkTrial(int setting, int max_chunks) {
  if (setting > 0) chunks_ = setting;
  if (setting > 0 || max_chunks == 1) return;
  for (int chunks = 1; chunks <= std::min(max_chunks, kMaxTried); chunks *= 2) {
    candidates_.push_back({chunks, std::numeric_limits<double>::infinity()});
  }
  settled_ = false;
}

void ChunkTrial::AddStep(double seconds) {
  if (settled_) return;
  const int candidates = static_cast<int>(candidates_.size()), tried = steps_++ - kWarmSteps;
  if (tried >= 0) {
    double& best = candidates_[static_cast<size_t>(tried % candidates)].best_seconds;
    best = std::min(best, seconds);
  }
  if (tried + 1 == kRounds * candidates) return Settle();
  if (tried + 1 >= 0) chunks_ = candidates_[static_cast<size_t>((tried + 1) % candidates)].chunks;
}

// Prefers fewer chunks if more are not faster by more than noise.
void ChunkTrial::Settle() {
  double fastest = candidates_[0].best_seconds;
  for (const Candidate& candidate : candidates_)
    fastest = std::min(fastest, candidate.best_seconds);
  for (const Candidate& candidate : candidates_) {
    if (candidate.best_seconds > fastest * (1 + kNoise)) continue;
    chunks_ = candidate.chunks;
    break;
  }
  settled_ = true;
}

std::string ChunkTrial::ToString() const {
  std::string text = absl::StrFormat("%d", chunks_);
  if (candidates_.empty() || !settled_) return text;
  std::string others;
  for (const Candidate& candidate : candidates_) {
    if (candidate.chunks == chunks_) {
      absl::StrAppendFormat(&text, " (%.4g s per step", candidate.best_seconds);
    } else {
      absl::StrAppendFormat(&others, "%s %d: %.4g s", others.empty() ? "; tried" : ",",
                            candidate.chunks, candidate.best_seconds);
    }
  }
  return text + others + ")";
}

}  // namespace unipool
