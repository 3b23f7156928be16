#include "data/sample_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using Order = SourceOptions::Order;

constexpr int64_t kSequence = 4;
constexpr int kDocuments = 20, kLength = 9;

// Three shards of 180 tokens; shard s holds the ids s * 1000 + i.
class SampleSourceTest : public ::testing::Test {
 protected:
  SampleSourceTest() {
    for (int shard = 0; shard < 3; ++shard) {
      const std::string prefix = folder_.Path(std::string(1, static_cast<char>('a' + shard)));
      auto writer = *IndexedDatasetWriter::Create(prefix, 5000);
      int32_t id = shard * 1000;
      for (int d = 0; d < kDocuments; ++d) {
        std::vector<int32_t> document(kLength);
        for (int32_t& token : document) token = id++;
        EXPECT_OK(writer->AddDocument(document));
      }
      EXPECT_OK(writer->Finish());
      datasets_.push_back(*IndexedDataset::Open(prefix));
      shards_.push_back(datasets_.back().get());
    }
  }

  std::unique_ptr<SampleSource> Source(Order order, const std::vector<double>& weights,
                                       int64_t num_samples, Split part = Split::kTrain) const {
    const auto shards = weights.empty() ? std::vector{shards_[0]} : shards_;
    auto source = CreateSampleSource(shards, {.order = order,
                                              .weights = weights,
                                              .split = "80,10,10",
                                              .part = part,
                                              .sequence = kSequence,
                                              .seed = 1234,
                                              .num_samples = num_samples});
    EXPECT_OK(source);
    return *std::move(source);
  }

  static std::vector<int32_t> Read(const SampleSource& source, int64_t sample) {
    std::vector<int32_t> ids(kSequence + 1);
    source.Read(sample, absl::MakeSpan(ids));
    return ids;
  }

  testing::TempFolder folder_;
  std::vector<std::unique_ptr<IndexedDataset>> datasets_;
  std::vector<const IndexedDataset*> shards_;
};

TEST_F(SampleSourceTest, LocateNamesThePositionOfEachId) {
  for (const Order order : {Order::kStateless, Order::kMegatron}) {
    for (const std::vector<double>& weights : {std::vector<double>{}, {1.0, 2.0, 1.0}}) {
      const auto source = Source(order, weights, 50);
      for (int64_t sample = 0; sample < 60; ++sample) {
        const std::vector<int32_t> ids = Read(*source, sample);
        for (int64_t i = 0; i <= kSequence; ++i) {
          const TokenLocation location = source->Locate(sample, i);
          int32_t id = -1;
          location.dataset->Read(location.token, absl::MakeSpan(&id, 1));
          ASSERT_EQ(id, ids[i]) << sample << " " << i;
        }
      }
    }
  }
}

TEST_F(SampleSourceTest, TrainingNeverSeesTheOtherParts) {
  for (const Order order : {Order::kStateless, Order::kMegatron}) {
    std::vector<std::set<int32_t>> seen;
    for (const Split part : {Split::kTrain, Split::kValidation, Split::kTest}) {
      const auto source = Source(order, {1, 1, 1}, 400, part);
      std::set<int32_t>& ids = seen.emplace_back();
      for (int64_t sample = 0; sample < 400; ++sample) {
        for (const int32_t id : Read(*source, sample)) ids.insert(id);
      }
    }
    // 16 of the 20 documents are for training, 2 and 2 for the others.
    for (const int32_t id : seen[0]) EXPECT_LT(id % 1000, 144);
    for (const int32_t id : seen[1]) EXPECT_TRUE(id % 1000 >= 144 && id % 1000 < 162);
    for (const int32_t id : seen[2]) EXPECT_GE(id % 1000, 162);
    EXPECT_GE(seen[0].size(), 3u * 141);
  }
}

TEST_F(SampleSourceTest, EachShardOfABlendHasItsOwnOrder) {
  const auto source = Source(Order::kStateless, {1, 1, 1}, 1);
  // One epoch of all three shards: each has 35 samples of 4 in its 144 tokens.
  std::vector<std::vector<int32_t>> starts(3);
  for (int64_t sample = 0; sample < 3 * 35; ++sample) {
    const int32_t id = Read(*source, sample)[0];
    starts[id / 1000].push_back(id % 1000);
  }
  EXPECT_NE(starts[0], starts[1]);
  for (std::vector<int32_t>& of_shard : starts) {
    std::sort(of_shard.begin(), of_shard.end());
    ASSERT_EQ(of_shard.size(), 35u);
    for (int i = 0; i < 35; ++i) EXPECT_EQ(of_shard[i], kSequence * i);
  }
}

TEST_F(SampleSourceTest, OnlyABlendAddsHalfAPercent) {
  // 35 samples fill one epoch; a 36th needs a second one.
  EXPECT_EQ(Source(Order::kMegatron, {}, 35)->samples_per_epoch(), 35);
  const auto names_before = folder_.Names().size();
  const auto shard = CreateSampleSource({shards_[0]}, {.order = Order::kMegatron,
                                                       .weights = {2.0},
                                                       .split = "80,10,10",
                                                       .part = Split::kTrain,
                                                       .sequence = kSequence,
                                                       .seed = 1234,
                                                       .num_samples = 35});
  ASSERT_OK(shard);
  EXPECT_EQ(folder_.Names().size(), names_before + 2);  // the order for 36, and the blend
  const auto plain = Source(Order::kMegatron, {}, 36);
  for (int64_t sample = 0; sample < 35; ++sample) {
    EXPECT_EQ(Read(**shard, sample), Read(*plain, sample));
  }
  EXPECT_EQ(folder_.Names().size(), names_before + 2);
}

// Resident memory of this process including mapped files, in bytes.
int64_t ResidentBytes() {
  int64_t pages = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// Writes an index of `sequences` sequences of 1000 tokens, and a sparse .bin of zeros.
void WriteZeros(const testing::TempFolder& folder, int64_t sequences) {
  std::string index("MMIDIDX\0\0\1\0\0\0\0\0\0\0\x08", 18);
  const auto append = [&index](auto value) {
    index.append(reinterpret_cast<const char*>(&value), sizeof(value));
  };
  append(sequences);
  append(sequences + 1);
  for (int64_t i = 0; i < sequences; ++i) append(int32_t{1000});
  for (int64_t i = 0; i < sequences; ++i) append(2000 * i);
  for (int64_t i = 0; i <= sequences; ++i) append(i);
  folder.Write("zeros.idx", index);
  folder.Write("zeros.bin", "");
  std::filesystem::resize_file(folder.Path("zeros.bin"), 2000 * sequences);
}

TEST_F(SampleSourceTest, ManySamplesOfLargeFilesTakeLittleMemory) {
  WriteZeros(folder_, 400'000);
  const int64_t before = ResidentBytes();
  const auto dataset = *IndexedDataset::Open(folder_.Path("zeros"));
  const auto source = CreateSampleSource({dataset.get()}, {.order = Order::kMegatron,
                                                           .split = "969,30,1",
                                                           .part = Split::kTrain,
                                                           .sequence = 1024,
                                                           .seed = 1234,
                                                           .num_samples = 300'000});
  ASSERT_OK(source);
  std::vector<int32_t> ids(1025);
  int64_t max_bytes = 0;
  for (int64_t sample = 0; sample < 10'000; ++sample) {
    (*source)->Read(sample, absl::MakeSpan(ids));
    if (sample % 1000 == 999) max_bytes = std::max(max_bytes, ResidentBytes());
  }
  // The reads touch 40 MB of the .bin and most pages of the index (8 MB) and of the order (4 MB).
  EXPECT_LT(max_bytes - before, int64_t{32} << 20);
}

TEST_F(SampleSourceTest, APartOfWeightZeroDoesNotExist) {
  for (const Order order : {Order::kStateless, Order::kMegatron}) {
    const auto create = [&](const char* split, Split part) {
      return CreateSampleSource({shards_[0]}, {.order = order,
                                               .split = split,
                                               .part = part,
                                               .sequence = kSequence,
                                               .seed = 1234,
                                               .num_samples = 5});
    };
    EXPECT_OK(create("100,0,0", Split::kTrain));
    EXPECT_OK(create("9,1", Split::kValidation));
    EXPECT_OK(create("0,0,100", Split::kTest));
    EXPECT_STATUS(
        create("100,0,0", Split::kValidation), kInvalidArgument,
        "data.split = \"100,0,0\" has no validation part; give that part a weight above 0");
    EXPECT_STATUS(create("9,1", Split::kTest), kInvalidArgument, "has no test part");
    EXPECT_STATUS(create("0,0,100", Split::kTrain), kInvalidArgument, "has no train part");
  }
}

TEST_F(SampleSourceTest, AShardWithoutASampleIsNamed) {
  const auto source = CreateSampleSource(shards_, {.weights = {1, 1, 1},
                                                   .split = "999,1,0",
                                                   .part = Split::kValidation,
                                                   .sequence = kSequence,
                                                   .seed = 1234,
                                                   .num_samples = 5});
  EXPECT_STATUS(source, kInvalidArgument, folder_.Path("a") + ", validation part: tokens");
}

}  // namespace
}  // namespace unipool
