// Decides what to do about a step whose loss or gradient norm is not finite or jumps: skip its
// update, rewind to the last checkpoint, or stop. recovery.h carries the decision out. All ranks
// must pass the same numbers and then get the same decisions. The state is part of a checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "launch/checkpoint/checkpoint.h"
#include "launch/config/messages.h"

namespace unipool {

class DivergenceGuard {
 public:
  enum class Verdict { kSound, kSkip, kRewind, kStop };

  // `settings` is resolved and checked.
  explicit DivergenceGuard(const config::Divergence& settings);

  // The verdict on a step with this loss and this gradient norm before clipping. Allocates nothing
  // if the step is sound.
  Verdict Judge(double loss, double norm);
  // What is wrong with the last step, such as "loss 9.1, above 2 times the median 3.2 of the last
  // 64 steps"; empty if it is sound.
  const std::string& reason() const { return reason_; }

  const DivergenceState& state() const { return state_; }
  // Continues from the state of a checkpoint. If it has more steps than the window, the newest are
  // kept.
  void Restore(DivergenceState state);
  // Returns true if the settings allow one more rewind.
  bool MayRewind() const;
  // Counts a rewind after Restore of the checkpoint, whose state does not include it. `before` is
  // the number of rewinds before this one.
  void CountRewind(int64_t before) { state_.rewinds = before + 1; }

 private:
  // Returns true and sets reason_ if `value` exceeds `times` times the median of `before`.
  bool Jumps(const char* name, double value, double times, absl::Span<const double> before);

  struct Settings {
    int action;
    double loss_spike;
    double norm_spike;
    int64_t window;
    int64_t max_skips_in_a_row;
    int64_t max_rewinds;
  };

  const Settings settings_;
  DivergenceState state_;
  std::vector<double> sorted_;  // scratch
  std::string reason_;
};

}  // namespace unipool
