// The expected numbers were printed by tests/data/megatron_reference.py --golden, which shares no
// code with the program. tests/launch/commands/data_batch_test.py compares complete batches with
// it.
#include "data/megatron_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::ElementsAreArray;

// Token i of the stream is i.
class MegatronOrderTest : public ::testing::Test {
 protected:
  void SetUp() override { WriteSequences({3, 1, 0, 7, 2, 5, 4, 1, 6}); }

  // Writes the index by hand, because IndexedDatasetWriter never writes an empty sequence.
  void WriteSequences(const std::vector<int>& lengths) {
    std::vector<int32_t> tokens;
    std::string sizes, offsets, documents;
    for (const int length : lengths) {
      AppendTo(&sizes, int32_t{length});
      AppendTo(&offsets, static_cast<int64_t>(tokens.size()));
      for (int i = 0; i < length; ++i) tokens.push_back(static_cast<int32_t>(tokens.size()));
    }
    AppendTo(&documents, int64_t{0});
    AppendTo(&documents, static_cast<int64_t>(lengths.size()));
    std::string index("MMIDIDX\0\0\1\0\0\0\0\0\0\0\1", 18);
    AppendTo(&index, static_cast<int64_t>(lengths.size()));
    AppendTo(&index, int64_t{2});
    folder_.Write("x.idx", index + sizes + offsets + documents);
    folder_.Write("x.bin", std::string(tokens.begin(), tokens.end()));
    dataset_ = *IndexedDataset::Open(folder_.Path("x"));
  }

  template <typename T>
  static void AppendTo(std::string* bytes, T value) {
    bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

  void ExpectIndices(const MegatronPart& part, const std::vector<int32_t>& documents,
                     const std::vector<std::pair<uint32_t, uint32_t>>& cuts,
                     const std::vector<uint32_t>& shuffle) const {
    const auto indices = BuildMegatronIndices(*dataset_, part);
    ASSERT_OK(indices);
    EXPECT_THAT(indices->documents, ElementsAreArray(documents));
    std::vector<std::pair<uint32_t, uint32_t>> found;
    for (const auto& [document, offset] : indices->samples) found.emplace_back(document, offset);
    EXPECT_THAT(found, ElementsAreArray(cuts));
    EXPECT_THAT(indices->shuffle, ElementsAreArray(shuffle));
  }

  std::unique_ptr<SampleSource> Order(const MegatronPart& part) const {
    auto order = MegatronOrder::Create(*dataset_, part, "train", "");
    EXPECT_OK(order);
    return *std::move(order);
  }

  testing::TempFolder folder_;
  std::unique_ptr<IndexedDataset> dataset_;
};

TEST_F(MegatronOrderTest, OneEpoch) {
  ExpectIndices(
      {.range = {0, 9}, .sequence = 4, .num_samples = 5, .seed = 1234}, {8, 2, 1, 0, 7, 4, 5, 6, 3},
      {{0, 0}, {0, 4}, {3, 1}, {5, 1}, {6, 3}, {7, 2}, {8, 2}, {8, 6}}, {5, 0, 3, 4, 2, 6, 1});
}

TEST_F(MegatronOrderTest, FullEpochsAreShuffledTogether) {
  ExpectIndices(
      {.range = {1, 8}, .sequence = 3, .num_samples = 18, .seed = 1234},
      {4, 7, 3, 3, 1, 6, 5, 1, 2, 5, 4, 5, 4, 3, 1, 2, 7, 6, 7, 6, 2},
      {{0, 0}, {2, 0},  {2, 3},  {2, 6},  {3, 2},  {3, 5},  {5, 0},  {5, 3},  {6, 2},  {7, 0},
       {9, 2}, {10, 0}, {11, 1}, {11, 4}, {13, 0}, {13, 3}, {13, 6}, {17, 0}, {17, 3}, {19, 1}},
      {8, 18, 13, 1, 4, 17, 14, 11, 9, 0, 7, 3, 10, 6, 2, 5, 12, 16, 15});
}

TEST_F(MegatronOrderTest, ALastEpochNeededInPartIsShuffledSeparately) {
  ExpectIndices(
      {.range = {1, 8}, .sequence = 3, .num_samples = 14, .seed = 7},
      {6, 5, 3, 6, 1, 2, 7, 2, 1, 4, 4, 7, 3, 5, 2, 7, 4, 6, 5, 1, 3},
      {{0, 0},  {0, 3},  {1, 2},  {2, 0},  {2, 3},  {2, 6},  {3, 2},  {6, 0},  {9, 1},  {11, 0},
       {12, 2}, {12, 5}, {13, 1}, {13, 4}, {16, 1}, {17, 2}, {18, 1}, {18, 4}, {20, 1}, {20, 4}},
      {2, 8, 1, 9, 0, 5, 12, 4, 3, 6, 10, 7, 11, 18, 14, 17, 15, 13, 16});
}

TEST_F(MegatronOrderTest, SamplesAreConsecutiveTokensOfTheStream) {
  const MegatronPart part{.range = {1, 8}, .sequence = 3, .num_samples = 14, .seed = 7};
  const auto order = Order(part);
  const auto indices = BuildMegatronIndices(*dataset_, part);
  std::vector<int32_t> stream;
  for (const int32_t id : indices->documents) {
    for (int64_t t = dataset_->SequenceStart(id); t < dataset_->SequenceStart(id + 1); ++t) {
      stream.push_back(static_cast<int32_t>(t));
    }
  }
  ASSERT_EQ(order->samples_per_epoch(), 14);
  // Samples of two rounds, in any order.
  for (const int64_t sample : {27, 0, 13, 5, 14, 1, 26}) {
    std::vector<int32_t> ids(4);
    order->Read(sample, absl::MakeSpan(ids));
    const auto begin = stream.begin() + 3 * indices->shuffle[sample % 14];
    EXPECT_EQ(ids, std::vector<int32_t>(begin, begin + 4)) << sample;
    for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(order->Locate(sample, i).token, ids[i]);
  }
}

TEST_F(MegatronOrderTest, AnotherNumberOfSamplesIsAnotherFile) {
  Order({.range = {0, 9}, .sequence = 4, .num_samples = 5, .seed = 1234});
  Order({.range = {0, 9}, .sequence = 4, .num_samples = 5, .seed = 1234});
  EXPECT_EQ(folder_.Names().size(), 3u);  // x.bin, x.idx and one order
  Order({.range = {0, 9}, .sequence = 4, .num_samples = 6, .seed = 1234});
  Order({.range = {0, 9}, .sequence = 4, .num_samples = 5, .seed = 1});
  Order({.range = {0, 8}, .sequence = 4, .num_samples = 5, .seed = 1234});
  Order({.range = {0, 9}, .sequence = 3, .num_samples = 5, .seed = 1234});
  EXPECT_EQ(folder_.Names().size(), 7u);
  WriteSequences({3, 1, 0, 7, 2, 5, 4, 2, 5});
  Order({.range = {0, 9}, .sequence = 4, .num_samples = 5, .seed = 1234});
  EXPECT_EQ(folder_.Names().size(), 8u);
}

TEST_F(MegatronOrderTest, APartWithoutTokensIsRefused) {
  EXPECT_STATUS(BuildMegatronIndices(*dataset_,
                                     {.range = {2, 3}, .sequence = 4, .num_samples = 5, .seed = 0}),
                kInvalidArgument, "x: sequences 2 to 3 have no tokens");
}

TEST_F(MegatronOrderTest, MoreSamplesThanTheArraysCanNumberAreRefused) {
  EXPECT_STATUS(
      BuildMegatronIndices(
          *dataset_, {.range = {0, 9}, .sequence = 4, .num_samples = int64_t{1} << 32, .seed = 0}),
      kInvalidArgument, "takes at most 2147483647 sequences and 4294967294 samples");
}

}  // namespace
}  // namespace unipool
