#include "data/sample_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using testing::TempFolder;

std::vector<int64_t> Permutation(int64_t size, uint64_t key) {
  std::vector<int64_t> order(size);
  for (int64_t i = 0; i < size; ++i) order[i] = PermuteIndex(i, size, key);
  return order;
}

std::vector<int64_t> Starts(const SampleOrder& order, int64_t first, int64_t count) {
  std::vector<int64_t> starts(count);
  for (int64_t i = 0; i < count; ++i) starts[i] = order.Start(first + i);
  return starts;
}

// A dataset of `sequences` sequences of two tokens each.
std::unique_ptr<IndexedDataset> PairsDataset(const TempFolder& folder, int64_t sequences) {
  auto writer = *IndexedDatasetWriter::Create(folder.Path("x"), 257);
  for (int64_t i = 0; i < sequences; ++i) EXPECT_OK(writer->AddDocument({1, 2}));
  EXPECT_OK(writer->Finish());
  return *IndexedDataset::Open(folder.Path("x"));
}

// The bounds of the three parts, in sequences.
std::vector<int64_t> Bounds(const IndexedDataset& dataset, const std::string& weights) {
  std::vector<int64_t> bounds = {0};
  for (const Split split : {Split::kTrain, Split::kValidation, Split::kTest}) {
    const auto range = SplitRange(dataset, weights, split);
    EXPECT_OK(range);
    EXPECT_EQ(range->begin, 2 * bounds.back());
    bounds.push_back(range->end / 2);
  }
  return bounds;
}

TEST(PermuteIndex, IsABijectionForEverySize) {
  for (int64_t size = 1; size <= 300; ++size) {
    for (uint64_t key : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
      std::vector<int64_t> order = Permutation(size, key), sorted(size);
      std::iota(sorted.begin(), sorted.end(), 0);
      std::sort(order.begin(), order.end());
      ASSERT_EQ(order, sorted) << size << " under " << key;
    }
  }
}

TEST(PermuteIndex, IsABijectionForLargeSizes) {
  for (const int64_t size : {4095, 4096, 4097, 65536, 65537, 262145}) {
    std::vector<bool> seen(size);
    for (const int64_t i : Permutation(size, 99)) seen[i] = true;
    EXPECT_EQ(std::count(seen.begin(), seen.end(), true), size);
  }
}

TEST(PermuteIndex, StaysInRangeForSizesBeyondMemory) {
  std::set<int64_t> seen;
  const int64_t size = (int64_t{1} << 60) + 12345;
  for (int64_t i = 0; i < 1000; ++i) {
    const int64_t to = PermuteIndex(size - 1 - i, size, 5);
    ASSERT_TRUE(to >= 0 && to < size);
    seen.insert(to);
  }
  EXPECT_EQ(seen.size(), 1000u);
}

TEST(PermuteIndex, KeysReachAllOrdersOfThreeAboutEquallyOften) {
  std::map<std::vector<int64_t>, int> counts;
  constexpr int kKeys = 6000;
  for (uint64_t key = 0; key < kKeys; ++key) ++counts[Permutation(3, key)];
  EXPECT_EQ(counts.size(), 6u);
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, 1000, 150);
}

TEST(PermuteIndex, SpreadsNeighbors) {
  constexpr int64_t kSize = 10007;
  const auto order = Permutation(kSize, 3);
  double distance = 0;
  for (int64_t i = 1; i < kSize; ++i) distance += std::abs(order[i] - order[i - 1]);
  // Two independent uniform numbers are a third of the range apart on average.
  EXPECT_NEAR(distance / (kSize - 1) / kSize, 1.0 / 3, 0.01);
}

TEST(SplitRange, RoundsHalvesToEven) {
  const TempFolder folder;
  // 0.5 * 5 = 2.5 -> 2 and 0.5 * 7 = 3.5 -> 4, as Python's round.
  EXPECT_THAT(Bounds(*PairsDataset(folder, 5), "50,50,0"), ElementsAre(0, 2, 5, 5));
  EXPECT_THAT(Bounds(*PairsDataset(folder, 7), "50,50,0"), ElementsAre(0, 4, 7, 7));
}

TEST(SplitRange, FollowsThePublishedSplit) {
  const TempFolder folder;
  // round(.969 * 1234) = round(1195.746), round(.999 * 1234) = round(1232.766).
  EXPECT_THAT(Bounds(*PairsDataset(folder, 1234), "969,30,1"), ElementsAre(0, 1196, 1233, 1234));
  EXPECT_THAT(Bounds(*PairsDataset(folder, 100), "90,5,5"), ElementsAre(0, 90, 95, 100));
  EXPECT_THAT(Bounds(*PairsDataset(folder, 10), "1"), ElementsAre(0, 10, 10, 10));
}

TEST(SplitRange, NamesAMalformedSplit) {
  const TempFolder folder;
  const auto dataset = PairsDataset(folder, 10);
  for (const std::string text : {"", "a", "90,5,x", "0,0,0", "90,-5,15", "1,2,3,4", "nan", "inf"}) {
    EXPECT_STATUS(SplitRange(*dataset, text, Split::kTrain), kInvalidArgument,
                  "split \"" + text + "\"");
  }
}

TEST(SampleOrder, SamplesShareOneTokenAndFillTheRange) {
  // floor((tokens - 1) / sequence): 21 tokens hold 5 samples of 4 + 1, 20 hold 4.
  EXPECT_EQ(SampleOrder::Create({100, 121}, 4, 0, false)->samples_per_epoch(), 5);
  const auto order = SampleOrder::Create({100, 120}, 4, 0, false);
  ASSERT_OK(order);
  EXPECT_EQ(order->samples_per_epoch(), 4);
  EXPECT_THAT(Starts(*order, 0, 6), ElementsAre(100, 104, 108, 112, 100, 104));
}

TEST(SampleOrder, EveryEpochVisitsEachSampleOnceInANewOrder) {
  const auto order = SampleOrder::Create({7, 7 + 64 * 50 + 1}, 64, 1234, true);
  ASSERT_OK(order);
  const auto first = Starts(*order, 0, 50), second = Starts(*order, 50, 50);
  EXPECT_NE(first, second);
  for (auto epoch : {first, second}) {
    std::sort(epoch.begin(), epoch.end());
    for (int64_t i = 0; i < 50; ++i) EXPECT_EQ(epoch[i], 7 + 64 * i);
  }
}

TEST(SampleOrder, SeedsGiveDifferentOrdersAndTheSameSeedTheSame) {
  const auto starts = [](uint64_t seed) {
    return Starts(*SampleOrder::Create({0, 1001}, 10, seed, true), 0, 100);
  };
  EXPECT_EQ(starts(1), starts(1));
  EXPECT_NE(starts(1), starts(2));
}

TEST(SampleOrder, TooFewTokensAreRefusedWithTheNumbers) {
  EXPECT_OK(SampleOrder::Create({10, 15}, 4, 0, true));
  EXPECT_STATUS(SampleOrder::Create({10, 14}, 4, 0, true), kInvalidArgument,
                "are 4, fewer than one sample of 4 + 1");
  EXPECT_STATUS(SampleOrder::Create({10, 10}, 4, 0, true), kInvalidArgument, "are 0");
  EXPECT_STATUS(SampleOrder::Create({0, 10}, 0, 0, true), kInvalidArgument, "a sequence of 0");
}

}  // namespace
}  // namespace unipool
