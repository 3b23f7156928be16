#include "data/batch_loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <new>
#include <numeric>
#include <string>
#include <vector>

#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace {
std::atomic<int64_t> num_allocations = 0;
}  // namespace

// Counts allocations of all threads, including the reader thread. noinline, because g++ reports
// inlined pairs of new and free as mismatched.
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++num_allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace unipool {
namespace {

using testing::TempFolder;

constexpr int64_t kSequence = 8;
constexpr int64_t kVocab = 50000;

// Token i of the stream is i, so that the position of every token of a batch is visible.
class BatchLoaderTest : public ::testing::Test {
 protected:
  void SetUp() override { WriteTokens(50 * kSequence + 1, kVocab); }

  void WriteTokens(int64_t count, int64_t vocab) {
    std::vector<int32_t> tokens(count);
    std::iota(tokens.begin(), tokens.end(), 0);
    auto writer = *IndexedDatasetWriter::Create(folder_.Path("x"), vocab);
    ASSERT_OK(writer->AddDocument(tokens));
    ASSERT_OK(writer->Finish());
    Open();
  }

  void Open() {
    dataset_ = *IndexedDataset::Open(folder_.Path("x"));
    source_ = Source(Split::kTrain);
  }

  BatchLoaderOptions Options(int rank, int ranks, int64_t micro_batch = 100) const {
    return {.sequence = kSequence,
            .global_batch = 8,
            .micro_batch = micro_batch,
            .rank = rank,
            .ranks = ranks,
            .vocab = kVocab};
  }

  SampleOrder Order() const {
    return *SampleOrder::Create({0, dataset_->num_tokens()}, kSequence, 1234, true);
  }

  // The training part is shuffled, the validation part is not.
  std::unique_ptr<SampleSource> Source(Split part) const {
    return *CreateSampleSource({dataset_.get()},
                               {.split = part == Split::kTrain ? "1,0,0" : "0,1,0",
                                .part = part,
                                .sequence = kSequence,
                                .seed = 1234,
                                .num_samples = 1});
  }

  std::unique_ptr<BatchLoader> Loader(const BatchLoaderOptions& options) const {
    return *BatchLoader::Create(*source_, options);
  }

  // A step's tokens in (micro-step, rank) order.
  std::vector<int32_t> Step(int64_t step, int ranks, int64_t micro_batch) const {
    std::vector<std::unique_ptr<BatchLoader>> loaders;
    for (int rank = 0; rank < ranks; ++rank) {
      loaders.push_back(Loader(Options(rank, ranks, micro_batch)));
      loaders.back()->Seek(step);
    }
    std::vector<int32_t> all;
    for (int micro_step = 0; micro_step < loaders[0]->num_micro_steps(); ++micro_step) {
      for (auto& loader : loaders) {
        const Batch& batch = loader->Next();
        EXPECT_LE(batch.sequences, micro_batch);
        const int32_t* tokens = batch.tokens.as<int32_t>();
        all.insert(all.end(), tokens, tokens + batch.tokens.numel());
      }
    }
    return all;
  }

  TempFolder folder_;
  std::unique_ptr<IndexedDataset> dataset_;
  std::unique_ptr<SampleSource> source_;
};

std::vector<int32_t> Tokens(const Batch& batch) {
  const int32_t* tokens = batch.tokens.as<int32_t>();
  return {tokens, tokens + batch.tokens.numel()};
}

TEST_F(BatchLoaderTest, TargetsAreTheTokensThatFollow) {
  const auto loader = Loader(Options(0, 1));
  const SampleOrder order = Order();
  for (int64_t step = 0; step < 20; ++step) {
    const Batch& batch = loader->Next();
    ASSERT_EQ(batch.step, step);
    ASSERT_EQ(batch.sequences, 8);
    ASSERT_EQ(batch.global_sequences, 8);
    for (int64_t i = 0; i < 8 * kSequence; ++i) {
      const int64_t expected = order.Start(step * 8 + i / kSequence) + i % kSequence;
      ASSERT_EQ(batch.tokens.as<int32_t>()[i], expected);
      ASSERT_EQ(batch.targets.as<int32_t>()[i], expected + 1);
    }
  }
}

TEST_F(BatchLoaderTest, EveryNumberOfRanksSeesTheSameGlobalBatch) {
  // 50 samples an epoch: step 6 wraps into the next one.
  for (const int64_t step : {0, 1, 6}) {
    const auto expected = Step(step, 1, 100);
    ASSERT_EQ(expected.size(), 8u * kSequence);
    for (const int ranks : {1, 2, 3, 4, 7, 11}) {
      for (const int64_t micro_batch : {1, 2, 3, 100}) {
        EXPECT_EQ(Step(step, ranks, micro_batch), expected) << ranks << " x " << micro_batch;
      }
    }
  }
}

TEST_F(BatchLoaderTest, SlicesFollowTheRuleOfConsecutiveMicroBatches) {
  // model/method.md#batch-order: micro-batch a of rank r of R is slice a * R + r.
  for (int rank = 0; rank < 2; ++rank) {
    const BatchLoaderOptions options = Options(rank, 2, 2);
    ASSERT_EQ(NumMicroSteps(options), 2);
    for (int micro_step = 0; micro_step < 2; ++micro_step) {
      EXPECT_EQ(RankSlice(options, micro_step).first, (micro_step * 2 + rank) * 2);
      EXPECT_EQ(RankSlice(options, micro_step).count, 2);
    }
  }
}

TEST_F(BatchLoaderTest, MoreRanksThanSamplesGiveEmptySlices) {
  const auto loader = Loader(Options(10, 11));
  const Batch& batch = loader->Next();
  EXPECT_EQ(batch.sequences, 0);
  EXPECT_EQ(batch.global_sequences, 8);
  EXPECT_EQ(batch.tokens.numel(), 0);
  EXPECT_EQ(loader->cursor(), 1);
  EXPECT_OK(loader->status());
}

TEST_F(BatchLoaderTest, CursorNamesTheStepOfTheNextBatch) {
  const auto loader = Loader(Options(0, 1, 3));
  ASSERT_EQ(loader->num_micro_steps(), 3);
  for (int64_t i = 0; i < 9; ++i) {
    EXPECT_EQ(loader->cursor(), i / 3);
    const Batch& batch = loader->Next();
    EXPECT_EQ(batch.step, i / 3);
    EXPECT_EQ(batch.micro_step, i % 3);
  }
}

TEST_F(BatchLoaderTest, SeekGivesTheSameBatchFromAnywhere) {
  const auto straight = Loader(Options(1, 2, 2));
  std::vector<std::vector<int32_t>> expected;
  for (int i = 0; i < 2 * 12; ++i) expected.push_back(Tokens(straight->Next()));
  const auto loader = Loader(Options(1, 2, 2));
  for (int round = 0; round < 200; ++round) {
    const int64_t step = round * 7 % 11;
    loader->Seek(step);
    ASSERT_EQ(loader->cursor(), step);
    for (int i = 0; i < round % 4; ++i) ASSERT_EQ(Tokens(loader->Next()), expected[2 * step + i]);
  }
}

TEST_F(BatchLoaderTest, SkippedStepsMoveTheDataButNotTheSteps) {
  const auto straight = Loader(Options(0, 1)), loader = Loader(Options(0, 1));
  std::vector<std::vector<int32_t>> expected;
  for (int i = 0; i < 12; ++i) expected.push_back(Tokens(straight->Next()));
  for (int step = 0; step < 3; ++step) EXPECT_EQ(Tokens(loader->Next()), expected[step]);
  loader->SkipTo(5);
  EXPECT_EQ(loader->skipped_steps(), 5);
  for (int step = 3; step < 7; ++step) {
    EXPECT_EQ(loader->cursor(), step);
    const Batch& batch = loader->Next();
    EXPECT_EQ(batch.step, step);
    EXPECT_EQ(Tokens(batch), expected[step + 5]);
  }
  loader->Seek(0);
  EXPECT_EQ(Tokens(loader->Next()), expected[5]);
  loader->SkipTo(0);
  EXPECT_EQ(Tokens(loader->Next()), expected[1]);
}

TEST_F(BatchLoaderTest, ABatchStaysValidUntilTheNextOneEvenAcrossASeek) {
  const auto loader = Loader(Options(0, 1));
  for (int round = 0; round < 50; ++round) {
    const Batch& batch = loader->Next();
    const auto before = Tokens(batch);
    loader->Seek(round * 3 % 10);
    std::this_thread::sleep_for(std::chrono::microseconds(200));
    ASSERT_EQ(Tokens(batch), before);
  }
}

TEST_F(BatchLoaderTest, CanBeDestroyedInAnyState) {
  for (int round = 0; round < 200; ++round) {
    const auto loader = Loader(Options(0, 1));
    for (int i = 0; i < round % 5; ++i) loader->Next();
    if (round % 3 == 0) loader->Seek(round);
  }
}

TEST_F(BatchLoaderTest, AWarmNextAllocatesNothing) {
  const auto loader = Loader(Options(0, 1, 2));
  for (int i = 0; i < 10; ++i) loader->Next();
  const int64_t before = num_allocations;
  for (int i = 0; i < 1000; ++i) loader->Next();
  EXPECT_EQ(num_allocations, before);
}

TEST_F(BatchLoaderTest, AnIdOutsideTheVocabularyIsReportedWithItsPosition) {
  BatchLoaderOptions options = Options(0, 1);
  options.vocab = 100;  // samples 0 to 11 hold ids below 100, and 8 are read a step
  const auto in_order = Source(Split::kValidation);
  const auto loader = *BatchLoader::Create(*in_order, options);
  EXPECT_EQ(loader->Next().sequences, 8);
  EXPECT_OK(loader->status());
  for (int i = 0; i < 3; ++i) EXPECT_EQ(loader->Next().sequences, 0);
  EXPECT_STATUS(loader->status(), kInvalidArgument,
                "x.bin: token 100 (byte 200) has id 100, expected 0 to 99");
  EXPECT_EQ(loader->cursor(), 1);
  loader->Seek(0);
  EXPECT_OK(loader->status());
  EXPECT_EQ(loader->Next().sequences, 8);
}

TEST_F(BatchLoaderTest, ANegativeIdIsReported) {
  WriteTokens(9, 70000);  // four bytes an id
  std::string bin = folder_.ReadAll("x.bin");
  bin.replace(4 * 8, 4, "\xff\xff\xff\xff");
  folder_.Write("x.bin", bin);
  Open();
  const auto loader = Loader(Options(0, 1));
  EXPECT_EQ(loader->Next().sequences, 0);
  EXPECT_STATUS(loader->status(), kInvalidArgument, "token 8 (byte 32) has id -1");
}

TEST_F(BatchLoaderTest, AnIdBeyondInt32IsReportedWithItsValue) {
  WriteTokens(9, 257);
  std::string index = folder_.ReadAll("x.idx");
  index[17] = 5;  // int64
  folder_.Write("x.idx", index);
  std::vector<int64_t> ids(9, 1);
  ids[8] = int64_t{1} << 32;
  folder_.Write("x.bin", {reinterpret_cast<const char*>(ids.data()), 8 * ids.size()});
  Open();
  const auto loader = Loader(Options(0, 1));
  EXPECT_EQ(loader->Next().sequences, 0);
  EXPECT_STATUS(loader->status(), kInvalidArgument,
                "token 8 (byte 64) has id 4294967296, expected");
}

TEST_F(BatchLoaderTest, InvalidOptionsAreRefused) {
  const auto create = [this](auto change) {
    BatchLoaderOptions options = Options(0, 1);
    change(options);
    return BatchLoader::Create(*source_, options);
  };
  using Options = BatchLoaderOptions;
  EXPECT_STATUS(create([](Options& o) { o.global_batch = 0; }), kInvalidArgument,
                "global_batch is 0");
  EXPECT_STATUS(create([](Options& o) { o.micro_batch = -1; }), kInvalidArgument,
                "micro_batch is -1");
  EXPECT_STATUS(create([](Options& o) { o.rank = 1; }), kInvalidArgument, "rank 1 of 1 ranks");
}

}  // namespace
}  // namespace unipool
