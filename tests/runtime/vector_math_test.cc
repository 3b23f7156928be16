#include "runtime/ops/vector_math.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

namespace unipool {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kLowest = -87.3f, kHighest = 88.3f;

double RelativeError(float x) { return std::abs(double{FastExp(x)} / std::exp(double{x}) - 1); }

TEST(FastExp, IsWithinTwoUlpOverItsRange) {
  double worst = 0;
  for (int i = 0; i <= 4000000; ++i) {
    const float x = kLowest + (kHighest - kLowest) * static_cast<float>(i) / 4e6f;
    worst = std::max(worst, RelativeError(std::min(x, kHighest)));
  }
  EXPECT_LT(worst, 2 * 0x1p-23);
}

TEST(FastExp, IsExactAtZeroAndGoodAroundIt) {
  EXPECT_EQ(FastExp(0.0f), 1.0f);
  EXPECT_EQ(FastExp(-0.0f), 1.0f);
  for (float x = 1; x > 1e-30f; x *= 0.7f) {
    EXPECT_LT(RelativeError(x), 0x1p-22) << x;
    EXPECT_LT(RelativeError(-x), 0x1p-22) << -x;
  }
}

TEST(FastExp, IsClampedOutsideItsRange) {
  for (const float x : {88.4f, 1000.0f, 3e38f, kInfinity}) EXPECT_EQ(FastExp(x), FastExp(kHighest));
  for (const float x : {-87.4f, -1e3f, -3e38f, -kInfinity}) EXPECT_EQ(FastExp(x), FastExp(kLowest));
  EXPECT_GE(FastExp(kLowest), std::numeric_limits<float>::min());
  EXPECT_TRUE(std::isfinite(FastExp(kHighest)));
}

TEST(FastExp, NanStaysNanWhateverItsBits) {
  for (const uint32_t bits : {0x7FC00000u, 0xFFC00000u, 0x7F800001u, 0xFFFFFFFFu, 0x7FFFFFFFu}) {
    EXPECT_TRUE(std::isnan(FastExp(std::bit_cast<float>(bits)))) << bits;
  }
}

TEST(RowMax, FindsTheLargestAnywhere) {
  for (const int64_t count : {1, 7, 8, 9, 31}) {
    for (int64_t at = 0; at < count; ++at) {
      std::vector<float> row(static_cast<size_t>(count), -kInfinity);
      row[static_cast<size_t>(at)] = -5;
      EXPECT_EQ(RowMax(row.data(), count), -5);
    }
  }
}

TEST(ExpRow, GivesTheExponentialsAndTheirSumAlsoInPlace) {
  std::array<float, 19> row, out;
  double expected = 0;
  for (size_t i = 0; i < row.size(); ++i) {
    row[i] = 0.5f * static_cast<float>(i) - 4;
    expected += std::exp(double{row[i]} - 1.5);
  }
  const float sum = ExpRow(row.data(), 19, 1.5f, out.data());
  EXPECT_NEAR(sum, expected, 1e-5 * expected);
  EXPECT_NEAR(out[18], std::exp(3.5), 1e-5 * std::exp(3.5));
  EXPECT_EQ(ExpRow(row.data(), 19, 1.5f, row.data()), sum);
  EXPECT_EQ(row, out);
}

}  // namespace
}  // namespace unipool
