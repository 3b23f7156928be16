#include "launch/train/unrouted_warning.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_format.h"

namespace unipool {
namespace {

constexpr size_t kStepsOfWarning = 5, kStepsOfSummary = 10;
constexpr double kMaxUnrouted = 0.05, kGrowth = 0.2;

std::string Line(double share) {
  return absl::StrFormat(
      "%.0f %% of (token, layer) pairs have no expert, because all their router scores are 0; set "
      "a smaller pool.pool_loss, a larger model.init_std (0 = default), a lower schedule.lr, or "
      "pool.router = SOFTMAX",
      100 * share);
}

}  // namespace

double UnroutedWarning::MeanOfLast(size_t steps) const {
  const size_t count = std::min(steps, shares_.size());
  if (count == 0) return 0;
  return std::accumulate(shares_.end() - static_cast<std::ptrdiff_t>(count), shares_.end(), 0.0) /
         static_cast<double>(count);
}

std::string UnroutedWarning::Add(double unrouted_share) {
  shares_.push_back(unrouted_share);
  if (shares_.size() > kStepsOfSummary) shares_.pop_front();
  if (shares_.size() < kStepsOfWarning) return "";
  const double share = MeanOfLast(kStepsOfWarning);
  if (share <= kMaxUnrouted || (warned_of_ > 0 && share < warned_of_ + kGrowth)) return "";
  warned_of_ = share;
  return Line(share);
}

std::string UnroutedWarning::Summary() const {
  const double share = MeanOfLast(kStepsOfSummary);
  return share > kMaxUnrouted ? Line(share) : "";
}

}  // namespace unipool
