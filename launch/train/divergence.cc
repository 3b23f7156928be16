#include "launch/train/divergence.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "runtime/median.h"

namespace unipool {
namespace {

// The median of fewer steps is too noisy to compare with.
constexpr int64_t kMinSteps = 8;

// Appends `value` and keeps the last `window` values. Allocates nothing: the memory is reserved.
void Push(double value, int64_t window, std::vector<double>* values) {
  if (static_cast<int64_t>(values->size()) >= window) values->erase(values->begin());
  values->push_back(value);
}

}  // namespace

DivergenceGuard::DivergenceGuard(const config::Divergence& settings)
    : settings_{.action = settings.action(),
                .loss_spike = settings.loss_spike(),
                .norm_spike = settings.norm_spike(),
                .window = settings.window(),
                .max_skips_in_a_row = settings.max_skips_in_a_row(),
                .max_rewinds = settings.max_rewinds()} {
  Restore({});
}

void DivergenceGuard::Restore(DivergenceState state) {
  state_ = std::move(state);
  for (std::vector<double>* values : {&state_.losses, &state_.norms}) {
    const auto size = static_cast<int64_t>(values->size());
    values->erase(values->begin(), values->end() - std::min(size, settings_.window));
    values->reserve(settings_.window);
  }
  sorted_.reserve(settings_.window);
}

DivergenceGuard::Verdict DivergenceGuard::Judge(double loss, double norm) {
  reason_.clear();
  const bool finite = std::isfinite(loss) && std::isfinite(norm);
  if (!finite) reason_ = absl::StrCat("loss ", loss, ", gradient norm ", norm);
  if (finite && !Jumps("loss", loss, settings_.loss_spike, state_.losses) &&
      !Jumps("gradient norm", norm, settings_.norm_spike, state_.norms)) {
    Push(loss, settings_.window, &state_.losses);
    Push(norm, settings_.window, &state_.norms);
    state_.skipped_in_a_row = 0;
    return Verdict::kSound;
  }
  if (settings_.action == config::Divergence::SKIP_UPDATE) {
    if (state_.skipped_in_a_row >= settings_.max_skips_in_a_row) return Verdict::kStop;
    ++state_.skipped_in_a_row;
    ++state_.skipped;
    return Verdict::kSkip;
  }
  return MayRewind() ? Verdict::kRewind : Verdict::kStop;
}

bool DivergenceGuard::MayRewind() const {
  return settings_.action == config::Divergence::REWIND && state_.rewinds < settings_.max_rewinds;
}

bool DivergenceGuard::Jumps(const char* name, double value, double times,
                            absl::Span<const double> before) {
  if (times == 0 || static_cast<int64_t>(before.size()) < std::min(kMinSteps, settings_.window)) {
    return false;
  }
  sorted_.assign(before.begin(), before.end());
  const double median = UpperMedianInPlace(absl::MakeSpan(sorted_));
  if (value <= times * median) return false;
  reason_ = absl::StrCat(name, " ", value, ", above ", times, " times the median ", median,
                         " of the last ", before.size(), " steps");
  return true;
}

}  // namespace unipool
