// What becomes of a step whose loss or gradient norm is no number, or jumps: its update is skipped,
// the run goes back to its last checkpoint and passes the data over, or it stops; and whether it
// goes back from a validation that is no number. Decides from numbers that all ranks have alike, so
// all ranks decide alike; its state is part of a checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "launch/checkpoint/checkpoint.h"

namespace unipool {

namespace config {
class Divergence;
}

class DivergenceGuard {
 public:
  enum class Verdict { kSound, kSkip, kRewind, kStop };

  // `settings` is resolved and checked.
  explicit DivergenceGuard(const config::Divergence& settings);

  // Of a step with this loss and this gradient norm. Allocates nothing for a sound one.
  Verdict Judge(double loss, double norm);
  // What was wrong with the last step judged, as "loss nan" or "loss 9.1, above 2 times the median
  // 3.2 of the last 64 steps"; empty where it was sound.
  const std::string& reason() const { return reason_; }

  const DivergenceState& state() const { return state_; }
  // Of a longer window, the newest are kept.
  void Restore(DivergenceState state);
  // Whether a state that trained steps cannot go on from, as one whose validation is no number, is
  // worth a rewind.
  bool MayRewind() const;
  // After going back to a checkpoint, which knows nothing of it: there were so many before.
  void CountRewind(int64_t before) { state_.rewinds = before + 1; }

 private:
  // Whether `value` is that many times the median of the steps before.
  bool Jumps(const char* name, double value, double times, absl::Span<const double> before);

  struct Settings {
    int action;
    double loss_spike;
    double norm_spike;
    int64_t window;
    int64_t most_in_a_row;
    int64_t most_rewinds;
  };

  const Settings settings_;
  DivergenceState state_;
  std::vector<double> sorted_;  // scratch
  std::string reason_;
};

}  // namespace unipool
