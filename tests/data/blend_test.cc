#include "data/blend.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;

std::vector<int64_t> Counts(const std::vector<uint16_t>& shards, size_t num_shards) {
  std::vector<int64_t> counts(num_shards);
  for (const uint16_t shard : shards) ++counts[shard];
  return counts;
}

// Expects that each shard's samples are used in order without gaps, and that no shard deviates from
// its share by more than `tolerance` samples.
void ExpectFair(const Blend& blend, const std::vector<double>& weights, int64_t first,
                int64_t count, double tolerance) {
  std::vector<int64_t> next(weights.size(), -1);
  for (int64_t i = first; i < first + count; ++i) {
    const Blend::Position position = blend.At(i);
    if (next[position.shard] >= 0) {
      ASSERT_EQ(position.sample, next[position.shard]) << i;
    }
    next[position.shard] = position.sample + 1;
    ASSERT_NEAR(static_cast<double>(position.sample),
                weights[position.shard] * static_cast<double>(i), tolerance)
        << i;
  }
}

TEST(Blend, SamplesPerShardMatchThePaper) {
  const std::vector<double> weights = NormalizeWeights(std::vector<double>(30, 1.0));
  EXPECT_EQ(SamplesOfShard(30720000, weights[7]), 1029120);
  EXPECT_EQ(SamplesOfShard(3123200, weights[7]), 104628);
  EXPECT_EQ(SamplesOfShard(51200, weights[7]), 1716);
}

// Printed by tests/data/megatron_reference.py --numpy.
TEST(Blend, WeightsAreAddedInNumpysOrder) {
  for (const auto& [count, sum] :
       std::vector<std::pair<int, double>>{{3, 0x1.68f5c28f5c28fp+0},
                                           {7, 0x1.bc28f5c28f5c2p+1},
                                           {9, 0x1.4e147ae147ae0p+2},
                                           {30, 0x1.1f33333333333p+4},
                                           {128, 0x1.30a3d70a3d706p+6},
                                           {129, 0x1.327ae147ae144p+6},
                                           {300, 0x1.64ffffffffff8p+7}}) {
    std::vector<double> weights(count);
    for (int i = 0; i < count; ++i) weights[i] = std::fmod(0.37 * i, 1.0) + 0.1;
    EXPECT_EQ(NormalizeWeights(weights)[0], weights[0] / sum) << count;
  }
}

TEST(Blend, EqualWeightsTakeTurns) {
  const std::vector<double> weights = NormalizeWeights(std::vector<double>(30, 1.0));
  const std::vector<uint16_t> greedy = GreedyBlend(weights, 30000);
  for (int i = 0; i < 30000; ++i) ASSERT_EQ(greedy[i], i % 30) << i;
  EXPECT_EQ(BlendCycle(weights).size(), 30u);
  const Blend cycle = Blend::Cycle(weights);
  const int64_t far = 30'000'000'000'000;
  for (int64_t i = far; i < far + 60; ++i) {
    EXPECT_EQ(cycle.At(i).shard, i % 30);
    EXPECT_EQ(cycle.At(i).sample, i / 30);
  }
}

// Computed by hand: w * max(i, 1) - samples so far for w = (.5, .3, .2) and i = 0, 1, ...
TEST(Blend, TheLargestDeficitIsNextAndTheLowestShardOnTies) {
  EXPECT_THAT(GreedyBlend({0.5, 0.3, 0.2}, 6), ElementsAre(0, 1, 2, 0, 1, 0));
  EXPECT_THAT(GreedyBlend({0.5, 0.5}, 5), ElementsAre(0, 1, 0, 1, 0));
}

std::string Letters(const std::vector<double>& weights, int version, int64_t length) {
  std::string letters;
  const std::vector<double> sharing = SharingWeights(NormalizeWeights(weights), version);
  for (const uint16_t shard : GreedyBlend(sharing, length))
    letters += static_cast<char>('a' + shard);
  return letters;
}

// As megatron-core 0.16.1 draws them: the last bits of the weights decide the ties.
TEST(Blend, TiesAreThoseOfWeightsNormalizedTwice) {
  EXPECT_EQ(Letters({0.7, 0.2, 0.1}, kOrderVersion, 40),
            "abacaabaaaabacaabaaaabacaaabaaabacaaabaa");
  EXPECT_EQ(Letters({70, 20, 10}, kOrderVersion, 40), "abacaaabaaabacaaabaaabacaaabaaabacaaabaa");
}

TEST(Blend, TheFirstVersionNormalizesOnce) {
  EXPECT_EQ(Letters({0.7, 0.2, 0.1}, 1, 40), "abacaaabaaabacaaabaaabacaaabaaabacaaabaa");
  EXPECT_EQ(Letters({1, 1, 1}, 1, 9), Letters({1, 1, 1}, kOrderVersion, 9));
}

TEST(Blend, ACycleHoldsWholeSharesAndIsTheShortest) {
  EXPECT_THAT(Counts(BlendCycle({0.5, 0.3, 0.2}), 3), ElementsAre(5, 3, 2));
  EXPECT_THAT(Counts(BlendCycle(NormalizeWeights({2, 1})), 2), ElementsAre(2, 1));
  EXPECT_THAT(Counts(BlendCycle(NormalizeWeights({1.5, 1, 0.25})), 3), ElementsAre(6, 4, 1));
}

TEST(Blend, SharesThatAreNeverIntegersAreRounded) {
  const double third = 0.3333333, pi = 0.31415926535;
  const std::vector<double> weights = {third, pi, 1 - third - pi - 1e-9, 1e-9};
  const auto counts = Counts(BlendCycle(weights), 4);
  EXPECT_EQ(counts[0] + counts[1] + counts[2] + counts[3], kLongestCycle);
  EXPECT_EQ(counts[3], 1);  // small, but not 0
  for (int s = 0; s < 4; ++s) {
    EXPECT_NEAR(static_cast<double>(counts[s]), weights[s] * kLongestCycle, 1.5);
  }
}

TEST(Blend, CyclesAreFairAtAnyDistance) {
  const std::vector<double> weights = {0.5, 0.3, 0.2};
  ExpectFair(Blend::Cycle(weights), weights, 0, 1000, 1.5);
  ExpectFair(Blend::Cycle(weights), weights, 1'000'000'000'003, 1000, 1.5);
}

TEST(Blend, TheGreedyTableIsCachedInAFile) {
  const testing::TempFolder folder;
  const std::vector<double> weights = NormalizeWeights({3, 1.7, 0.01});
  const std::vector<uint16_t> shards = GreedyBlend(weights, 5000);
  for (int round = 0; round < 2; ++round) {
    const auto blend = Blend::Greedy(weights, 5000, folder.Path("x.train-blend"), "");
    ASSERT_OK(blend);
    EXPECT_EQ(folder.Names().size(), 1u);
    for (int i = 0; i < 5000; ++i) ASSERT_EQ(blend->At(i).shard, shards[i]);
    ExpectFair(*blend, weights, 0, 12000, 4);  // beyond the end the table repeats
  }
}

}  // namespace
}  // namespace unipool
