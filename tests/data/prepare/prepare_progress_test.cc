#include "data/prepare/prepare_progress.h"

#include <gtest/gtest.h>

namespace unipool {
namespace {

TEST(PrepareProgress, PrintsShareSpeedAndEta) {
  EXPECT_EQ(ProgressText({.file_bytes = 3'000'000, .text_bytes = 9'000'000, .documents = 12},
                         12'000'000, 3),
            "[#####---------------]  25 % of 12.0 MB, 3.0 MB/s of text, 12 documents, ETA 0:09");
  EXPECT_EQ(ProgressText({.file_bytes = 1, .text_bytes = 1, .documents = 0}, 10'000, 1),
            "[--------------------]   0 % of 0.0 MB, 0.0 MB/s of text, 0 documents, ETA 2:46:39");
}

TEST(PrepareProgress, PrintsWhatWasReadOfAPipe) {
  EXPECT_EQ(ProgressText({.file_bytes = 3'000'000, .text_bytes = 9'000'000, .documents = 12},
                         PrepareProgress::kUnknownBytes, 3),
            "3.0 MB read, 3.0 MB/s of text, 12 documents");
}

TEST(PrepareProgress, PrintsNoEtaAtTheStartAndZeroAtTheEnd) {
  EXPECT_EQ(ProgressText({}, 0, 0),
            "[--------------------]   0 % of 0.0 MB, 0.0 MB/s of text, 0 documents");
  // A file that grew since its size was taken.
  EXPECT_EQ(ProgressText({.file_bytes = 20, .text_bytes = 20, .documents = 1}, 10, 1),
            "[####################] 100 % of 0.0 MB, 0.0 MB/s of text, 1 documents, ETA 0:00");
}

}  // namespace
}  // namespace unipool
