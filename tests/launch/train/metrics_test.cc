#include "launch/train/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/launch/train/step_records.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;
using testing::Record;
using testing::TempFolder;
using testing::Validated;

TEST(MetricsFile, HoldsALinePerRecordDuringTheRun) {
  const TempFolder folder;
  folder.Write("metrics.jsonl", "an earlier run\n");
  const auto file = MetricsFile::Create(folder.Path("metrics.jsonl")).value();
  ASSERT_OK(file->Write(Validated(0)));
  EXPECT_EQ(folder.ReadAll("metrics.jsonl"), ToJson(Validated(0)) + "\n");
  ASSERT_OK(file->Write(Record(1)));
  EXPECT_EQ(folder.ReadAll("metrics.jsonl"),
            ToJson(Validated(0)) + "\n" + ToJson(Record(1)) + "\n");
}

// Resumes a file that held `text` after `step`; returns the standard error and the new contents.
std::pair<std::string, std::string> Resumed(const std::string& text, int64_t step) {
  const TempFolder folder;
  folder.Write("metrics.jsonl", text);
  ::testing::internal::CaptureStderr();
  EXPECT_OK(MetricsFile::Resume(folder.Path("metrics.jsonl"), step));
  return {::testing::internal::GetCapturedStderr(), folder.ReadAll("metrics.jsonl")};
}

TEST(MetricsFile, MissingRecordsAreAWarning) {
  const std::string kept = ToJson(Validated(0)) + "\n" + ToJson(Record(1)) + "\n";
  const std::string later = ToJson(Record(2)) + "\n";
  for (const auto& [text, step, warning] :
       {std::tuple(kept, 1, std::string()),
        {kept + later, 1, ""},
        {kept, 4, "metrics.jsonl: the records of steps 2 to 4 are missing"},
        {kept + later.substr(0, 20), 2,
         "metrics.jsonl: removed a partial line at the end; the records of steps 2 to 2 are"},
        {kept + later.substr(0, 20), 1, "metrics.jsonl: removed a partial line at the end\n"},
        {std::string(), 0, ""},
        {std::string(), 3, "the records of steps 1 to 3 are missing"}}) {
    const auto [logged, left] = Resumed(text, step);
    EXPECT_EQ(left, text.substr(0, kept.size()));
    EXPECT_THAT(logged, HasSubstr(warning));
    if (warning.empty()) {
      EXPECT_EQ(logged, "") << step;
    }
  }
}

TEST(MetricsFile, AFailedWriteNamesThePathAndTheReason) {
  const auto file = MetricsFile::Create("/dev/full").value();
  for (int64_t step = 1; step <= 2; ++step) {
    EXPECT_STATUS(file->Write(Record(step)), kDataLoss,
                  "/dev/full: write failed: No space left on device");
  }
}

TEST(MetricsFile, APartialLineIsRemoved) {
  const TempFolder folder;
  const std::string path = folder.Path("metrics.jsonl");
  const auto file = MetricsFile::Create(path).value();
  ASSERT_OK(file->Write(Record(1)));
  const std::string first = folder.ReadAll("metrics.jsonl");
  {
    const testing::FileSizeLimit full_disk(first.size() + 10);
    EXPECT_STATUS(file->Write(Record(2)), kDataLoss, path + ": write failed: File too large");
  }
  EXPECT_EQ(folder.ReadAll("metrics.jsonl"), first);
  ASSERT_OK(file->Write(Record(3)));
  EXPECT_EQ(folder.ReadAll("metrics.jsonl"), absl::StrCat(first, ToJson(Record(3)), "\n"));
}

TEST(MetricsFile, AFileThatCannotBeMadeNamesThePathAndTheReason) {
  const TempFolder folder;
  const std::string path = folder.Path("missing/metrics.jsonl");
  EXPECT_STATUS(MetricsFile::Create(path), kFailedPrecondition,
                path + ": cannot be written: No such file or directory");
}

}  // namespace
}  // namespace unipool
