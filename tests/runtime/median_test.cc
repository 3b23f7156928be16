#include "runtime/median.h"

#include <gtest/gtest.h>

#include <vector>

namespace unipool {
namespace {

TEST(Median, IsTheMiddleValueOrTheMeanOfTheTwoMiddleOnes) {
  EXPECT_EQ(Median({7}), 7);
  EXPECT_EQ(Median({9, 1, 4}), 4);
  EXPECT_EQ(Median({8, 1, 2, 4}), 3);
  EXPECT_EQ(Median({5, 5, 1, 5}), 5);
}

TEST(Median, UpperMedianIsTheHigherOfTwoMiddleValues) {
  std::vector<double> odd = {9, 1, 4}, even = {8, 1, 2, 4};
  EXPECT_EQ(UpperMedianInPlace(absl::MakeSpan(odd)), 4);
  EXPECT_EQ(UpperMedianInPlace(absl::MakeSpan(even)), 4);
}

TEST(MedianDeathTest, NoValuesAreRefused) { EXPECT_DEATH(Median({}), "values"); }

}  // namespace
}  // namespace unipool
