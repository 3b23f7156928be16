#include "launch/config/nearest_name.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace unipool {
namespace {

// Levenshtein distance: insertions, deletions and replacements that turn `a` into `b`.
int EditDistance(const std::string& a, const std::string& b) {
  std::vector<int> row(b.size() + 1);
  std::iota(row.begin(), row.end(), 0);
  for (size_t i = 1; i <= a.size(); ++i) {
    int diagonal = row[0];
    row[0] = static_cast<int>(i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const int replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

bool OneHoldsTheOther(const std::string& a, const std::string& b) {
  return std::min(a.size(), b.size()) >= 4 && (absl::StrContains(a, b) || absl::StrContains(b, a));
}

}  // namespace

std::string NearestName(const std::string& name, const std::vector<std::string>& names) {
  const std::string lower = absl::AsciiStrToLower(name);
  const int too_far = static_cast<int>(name.size() + 2) / 3 + 1;
  int best = too_far;
  std::string nearest;
  for (const std::string& candidate : names) {
    const std::string lower_candidate = absl::AsciiStrToLower(candidate);
    int distance = EditDistance(lower, lower_candidate);
    if (OneHoldsTheOther(lower, lower_candidate)) distance = std::min(distance, too_far - 1);
    if (distance >= best) continue;
    best = distance;
    nearest = candidate;
  }
  return nearest;
}

std::string DidYouMean(const std::string& name, const std::vector<std::string>& names) {
  const std::string nearest = NearestName(name, names);
  return nearest.empty() ? "" : absl::StrCat("did you mean \"", nearest, "\"?");
}

}  // namespace unipool
