#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/runtime/cuda/kernels_cuda.h"
#include "tests/support/gpu.h"

namespace unipool::testing {
namespace {

// Small integers are exact in bf16.
uint32_t BFloat16Bits(float value) { return __builtin_bit_cast(uint32_t, value) >> 16; }

Pairs PairsOf(const std::vector<float>& values) {
  Pairs pairs(values.size() / 2);
  for (size_t i = 0; i < pairs.size(); ++i) {
    pairs[i] = BFloat16Bits(values[2 * i]) | BFloat16Bits(values[2 * i + 1]) << 16;
  }
  return pairs;
}

// A different value at every position, without a symmetry that could hide a swap.
std::vector<float> Integers(size_t count, int salt) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(static_cast<int>((i * 37 + i / 7 * 11) % 61) - 30 + salt);
  }
  return values;
}

TEST(Ptx, MmaAddsTheProductOfTheFragments) {
  SKIP_WITHOUT_GPU();
  const std::vector<float> a = Integers(16 * 16, 1), b = Integers(8 * 16, 2);
  std::vector<float> d = Integers(16 * 8, 3);
  const std::vector<float> actual = RunMma(PairsOf(a), PairsOf(b), d);
  for (size_t row = 0; row < 16; ++row) {
    for (size_t column = 0; column < 8; ++column) {
      for (size_t k = 0; k < 16; ++k) d[row * 8 + column] += a[row * 16 + k] * b[column * 16 + k];
    }
  }
  EXPECT_EQ(actual, d);
}

// The pair of 16-bit numbers that lane `lane` receives according to PTX, for a matrix of the
// numbers 0, 1, 2, ...
uint32_t ExpectedPair(uint32_t first, uint32_t lane, bool transposed) {
  const uint32_t major = lane / 4, minor = lane % 4 * 2;
  const uint32_t low = transposed ? minor * 8 + major : major * 8 + minor;
  const uint32_t high = transposed ? low + 8 : low + 1;
  return (first + low) | (first + high) << 16;
}

TEST(Ptx, LoadMatrixDealsOutRowsOrColumns) {
  SKIP_WITHOUT_GPU();
  for (const uint32_t count : {2u, 4u}) {
    Pairs matrices(count * 32);
    for (uint32_t i = 0; i < matrices.size(); ++i) matrices[i] = 2 * i | (2 * i + 1) << 16;
    for (const bool transposed : {false, true}) {
      const Pairs actual = RunLoadMatrix(matrices, static_cast<int>(count), transposed);
      for (uint32_t lane = 0; lane < 32; ++lane) {
        for (uint32_t i = 0; i < count; ++i) {
          ASSERT_EQ(actual[lane * count + i], ExpectedPair(i * 64, lane, transposed))
              << "matrix " << i << " of " << count << ", lane " << lane << ", " << transposed;
        }
      }
    }
  }
}

TEST(Ptx, CopyAsyncCopiesWhatIsValidAndZeroesTheRest) {
  SKIP_WITHOUT_GPU();
  Pairs from(64 * 4);
  std::iota(from.begin(), from.end(), 1u);
  for (const int valid : {0, 20, 50, 64}) {
    Pairs expected = from;
    std::fill(expected.begin() + valid * 4, expected.end(), 0u);
    EXPECT_EQ(RunCopyAsync(from, valid), expected) << valid;
  }
}

// [outer][64] if the inner dimension runs along the rows, else [64][outer].
float ElementAt(const std::vector<float>& matrix, bool across, size_t outer, size_t inner) {
  return across ? matrix[inner * (matrix.size() / 64) + outer] : matrix[outer * 64 + inner];
}

TEST(Ptx, WgmmaMultipliesTilesAlongAndAcrossTheRows) {
  SKIP_WITHOUT_GPU();
  if (!CanRunWgmma()) GTEST_SKIP() << "this GPU, or this build, has no wgmma";
  for (const size_t columns : {128u, 256u}) {
    const std::vector<float> a = Integers(64 * 64, 1), b = Integers(columns * 64, 2);
    for (const int across : {0, 1, 2, 3}) {
      const bool a_across = across % 2 == 1, b_across = across / 2 == 1;
      std::vector<float> expected(64 * columns, 0);
      for (size_t i = 0; i < expected.size(); ++i) {
        for (size_t k = 0; k < 64; ++k) {
          expected[i] +=
              2 * ElementAt(a, a_across, i / columns, k) * ElementAt(b, b_across, i % columns, k);
        }
      }
      EXPECT_EQ(RunWgmma(static_cast<int>(columns), a_across, b_across, PairsOf(a), PairsOf(b)),
                expected)
          << columns << " columns, across: " << a_across << b_across;
    }
  }
}

TEST(Kernel, BlockReduceSumsAndFindsTheMaximumOfEveryThread) {
  SKIP_WITHOUT_GPU();
  std::vector<float> values = Integers(3 * 128, 0);
  values[300] = NAN;
  const std::vector<Reduced> actual = RunReduce(values);
  for (size_t block = 0; block < 2; ++block) {
    const auto begin = values.begin() + static_cast<int64_t>(block) * 128, end = begin + 128;
    EXPECT_EQ(actual[block].sum, std::accumulate(begin, end, 0.0f)) << block;
    EXPECT_EQ(actual[block].max, *std::max_element(begin, end)) << block;
  }
  EXPECT_TRUE(std::isnan(actual[2].sum) && std::isnan(actual[2].max));
}

TEST(Kernel, ShufflesReadTheLaneThatTheyName) {
  SKIP_WITHOUT_GPU();
  const std::vector<int> actual = RunShuffles();
  for (int lane = 0; lane < 32; ++lane) {
    const std::vector<int> expected = {lane ^ 5, lane < 3 ? lane : lane - 3,
                                       lane > 29 ? lane : lane + 2, 7};
    const auto begin = actual.begin() + lane * 4;
    EXPECT_EQ(std::vector<int>(begin, begin + 4), expected) << lane;
  }
}

TEST(Kernel, UsesMoreSharedMemoryThanEveryKernelMay) {
  SKIP_WITHOUT_GPU();
  for (const int bytes : {4096, 100 << 10, 163 << 10}) {
    const std::vector<int> actual = RunNeighbours(1024, bytes);
    for (int i = 0; i < 1024; ++i) ASSERT_EQ(actual[static_cast<size_t>(i)], (i + 512) % 1024);
  }
}

TEST(EmulatorDeathTest, StopsWhereThreadsDiverge) {
  if (!GpuIsEmulated()) GTEST_SKIP() << "asserts what the emulator finds";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(RunWithHalfABarrier(),
               "diverged: this one waits at __syncthreads for ever.*32 of 64 have ended|"
               "diverged.*thread 0 is at __syncthreads, 32 of 64 have ended");
  EXPECT_DEATH(RunWithDifferentCollectives(), "diverged: this one is at __s.*, others are at __s");
}

TEST(EmulatorDeathTest, DetectsCopiesThatAreNotFencedForWgmma) {
  if (!GpuIsEmulated()) GTEST_SKIP() << "asserts what the emulator finds";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(RunUnfencedWgmma(), "wgmma: thread [0-9]+ has not fenced what its cp.async wrote");
}

TEST(EmulatorDeathTest, DetectsAccessesOutsideOfAllocations) {
  if (!GpuIsEmulated()) GTEST_SKIP() << "asserts what the emulator finds";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(RunPastTheEnd(), "bytes after device memory .* of 124 bytes changed");
  EXPECT_DEATH(ReadDeviceMemoryOnTheHost(), "");
}

TEST(Emulator, ShowsAMissingBarrier) {
  if (!GpuIsEmulated()) GTEST_SKIP() << "asserts what the emulator finds";
  const std::vector<int> actual = RunNeighboursWithoutBarrier(256);
  int wrong = 0;
  for (int i = 0; i < 256; ++i) wrong += actual[static_cast<size_t>(i)] != (i + 128) % 256;
  EXPECT_GT(wrong, 0);
}

}  // namespace
}  // namespace unipool::testing
