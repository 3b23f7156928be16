#include "runtime/ops/bf16_terms.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "runtime/ops/compute.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::ToVector;
using testing::Workbench;

float At(const Tensor& y, int64_t row, int64_t column) {
  return y.as<BFloat16>()[row * y.dim(1) + column].ToFloat();
}

TEST(SplitTerms, ThreeTermsHoldEveryBit) {
  Workbench bench;
  constexpr int64_t kRows = 9, kColumns = 33;
  Tensor x = bench.Random("x", {kRows, kColumns});
  for (int64_t i = 0; i < x.numel(); ++i) x.as<float>()[i] *= std::ldexp(1.0f, i % 120 - 60);
  const Tensor y = bench.arena().New<BFloat16>({kRows, 3 * kColumns});
  Compute(bench.ctx(), SplitTerms{.x = x, .terms = {0, 1, 2, 0}, .y = y});
  for (int64_t r = 0; r < kRows; ++r) {
    for (int64_t c = 0; c < kColumns; ++c) {
      const float sum = At(y, r, c) + (At(y, r, kColumns + c) + At(y, r, 2 * kColumns + c));
      EXPECT_EQ(sum, x.as<float>()[r * kColumns + c]) << r << ", " << c;
    }
  }
}

TEST(SplitTerms, BlocksHoldTheTermsThatAreAskedFor) {
  Workbench bench;
  const Tensor x = bench.Floats({1, 2}, {1.0f + 0x1p-9f + 0x1p-20f, -3.0f});
  const Tensor y = bench.arena().New<BFloat16>({1, 8});
  Compute(bench.ctx(), SplitTerms{.x = x, .terms = {0, 2, 1, 0}, .y = y});
  const std::vector<float> expected = {1, -3, 0x1p-20f, 0, 0x1p-9f, 0, 1, -3};
  for (int64_t i = 0; i < 8; ++i) EXPECT_EQ(At(y, 0, i), expected[static_cast<size_t>(i)]) << i;
}

TEST(SumTerms, AddsThreeBlocksAndIgnoresTheFourth) {
  Workbench bench;
  const Tensor x = bench.Floats({2, 8}, {1, 2, 10, 20, 100, 200, NAN, NAN,  //
                                         3, 4, 30, 40, 300, 400, NAN, NAN});
  const Tensor y = bench.Poisoned({2, 2});
  Compute(bench.ctx(), SumTerms{.x = x, .accumulate = false, .y = y});
  EXPECT_EQ(ToVector(y), (std::vector<float>{111, 222, 333, 444}));
  Compute(bench.ctx(), SumTerms{.x = x, .accumulate = true, .y = y});
  EXPECT_EQ(ToVector(y), (std::vector<float>{222, 444, 666, 888}));
}

}  // namespace
}  // namespace unipool
