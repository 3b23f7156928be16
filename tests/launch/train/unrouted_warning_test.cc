#include "launch/train/unrouted_warning.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace unipool {
namespace {

std::vector<int> StepsOfLines(const std::vector<double>& shares) {
  UnroutedWarning warning;
  std::vector<int> steps;
  for (size_t i = 0; i < shares.size(); ++i) {
    if (!warning.Add(shares[i]).empty()) steps.push_back(static_cast<int>(i) + 1);
  }
  return steps;
}

TEST(UnroutedWarning, ComesAfterFiveSteps) {
  EXPECT_EQ(StepsOfLines({0.3, 0.3, 0.3, 0.3}), std::vector<int>());
  EXPECT_EQ(StepsOfLines({0.3, 0.3, 0.3, 0.3, 0.3}), std::vector<int>({5}));
}

TEST(UnroutedWarning, DoesNotComeForFewTokensOrOneStep) {
  EXPECT_EQ(StepsOfLines(std::vector<double>(50, 0.05)), std::vector<int>());
  EXPECT_EQ(StepsOfLines({0, 0, 0, 0, 0, 0.2, 0, 0, 0, 0, 0}), std::vector<int>());
}

TEST(UnroutedWarning, ComesAgainWhenTheShareHasGrown) {
  std::vector<double> shares(10, 0.1);
  shares.insert(shares.end(), 10, 0.29);
  EXPECT_EQ(StepsOfLines(shares), std::vector<int>({5}));
  shares.insert(shares.end(), 10, 0.31);
  EXPECT_EQ(StepsOfLines(shares), std::vector<int>({5, 23}));
}

TEST(UnroutedWarning, TheSummaryIsOfTheLastTenSteps) {
  UnroutedWarning warning;
  EXPECT_EQ(warning.Summary(), "");
  for (int i = 0; i < 20; ++i) warning.Add(0.5);
  EXPECT_EQ(warning.Summary().rfind("50 % of (token, layer) pairs have no expert", 0), 0u);
  for (int i = 0; i < 10; ++i) warning.Add(0.01);
  EXPECT_EQ(warning.Summary(), "");
}

}  // namespace
}  // namespace unipool
