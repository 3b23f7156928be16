#include "runtime/sequence_chunks.h"

#include <gtest/gtest.h>

#include <vector>

#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

// 1000 bytes per sequence and 5 bytes per chunk.
absl::StatusOr<int64_t> Bytes(int64_t sequences) { return 1000 * sequences + 5; }

TEST(SequenceChunks, AreAsFewAsFitAndAboutEqual) {
  EXPECT_EQ(SequencesPerChunk(65, 65005, Bytes).value(), 65);
  EXPECT_EQ(SequencesPerChunk(65, 65004, Bytes).value(), 33);
  EXPECT_EQ(SequencesPerChunk(65, 10005, Bytes).value(), 10);
  EXPECT_EQ(SequencesPerChunk(65, 10004, Bytes).value(), 9);
  EXPECT_EQ(SequencesPerChunk(1, 1 << 20, Bytes).value(), 1);
}

TEST(SequenceChunks, AreSingleSequencesIfNotEvenOneFits) {
  EXPECT_EQ(SequencesPerChunk(65, 1004, Bytes).value(), 1);
  EXPECT_EQ(SequencesPerChunk(65, 0, Bytes).value(), 1);
  EXPECT_EQ(SequencesPerChunk(1, 0, Bytes).value(), 1);
}

TEST(SequenceChunks, ReturnTheErrorOfTheSizeFunction) {
  const auto fail = [](int64_t) -> absl::StatusOr<int64_t> {
    return absl::UnimplementedError("no such shape");
  };
  EXPECT_STATUS(SequencesPerChunk(65, 1, fail), kUnimplemented, "no such shape");
}

TEST(SequenceChunks, CoverEachSequenceOnce) {
  for (const int64_t sequences : {1, 7, 64, 65}) {
    for (int64_t limit = 0; limit <= 70000; limit += 500) {
      const int64_t per_chunk = SequencesPerChunk(sequences, limit, Bytes).value();
      EXPECT_TRUE(per_chunk == 1 || Bytes(per_chunk).value() <= limit);
      std::vector<int64_t> covered;
      ForEachChunk(sequences, per_chunk, [&](int64_t first, int64_t count) {
        EXPECT_LE(count, per_chunk);
        for (int64_t i = first; i < first + count; ++i) covered.push_back(i);
      });
      ASSERT_EQ(static_cast<int64_t>(covered.size()), sequences);
      for (int64_t i = 0; i < sequences; ++i) ASSERT_EQ(covered[i], i);
    }
  }
}

}  // namespace
}  // namespace unipool
