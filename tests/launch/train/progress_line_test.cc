#include "launch/train/progress_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/launch/train/step_records.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::Record;
using ::testing::StartsWith;
using testing::Validated;

// The standard output of `body`.
template <typename Body>
std::string Printed(const Body& body) {
  ::testing::internal::CaptureStdout();
  body();
  return ::testing::internal::GetCapturedStdout();
}

// The average starts with the first step, not with 0.
TEST(PlainProgress, TheEtaOfAResumedRunUsesItsOwnSteps) {
  const std::string printed = Printed([] {
    ProgressLine progress(100, ProgressStyle::kLines);
    progress.Show(Record(61));
  });
  EXPECT_THAT(printed, ::testing::HasSubstr("ETA 1m18s"));
}

TEST(PlainProgress, ShowsTheFirstTheLastAndValidatedSteps) {
  const std::string printed = Printed([] {
    ProgressLine progress(100, ProgressStyle::kLines);
    for (int64_t step = 1; step <= 100; ++step) {
      progress.Show(step == 40 ? Validated(step) : Record(step));
    }
    progress.PrintLine("done");
  });
  std::string expected;
  for (const auto& [step, eta] : {std::pair(1, "3m18s"), {40, "2m00s"}, {100, "0s"}}) {
    absl::StrAppend(&expected, "step ", step, "/100  loss 0.3333  lr 5.00e-04  norm 12345678.90  ",
                    "2048 tokens/s  ETA ", eta, "\n");
  }
  EXPECT_EQ(printed, expected + "done\n");
}

TEST(PlainProgress, ShowsImbalanceIfThereIsOne) {
  const std::string printed = Printed([] {
    StepRecord record = Record(1);
    record.layer_imbalance = 1.5;
    record.pool_imbalance = 1.25;
    ProgressLine(5000, ProgressStyle::kLines).Show(record);
  });
  EXPECT_THAT(printed, EndsWith("ETA 2h46m  imbalance layer 1.50 pool 1.25\n"));
}

TEST(LiveProgress, OverwritesItsLine) {
  const std::string printed = Printed([] {
    ProgressLine progress(2, ProgressStyle::kLive);
    progress.Show(Record(1));
    progress.Show(Record(2));
  });
  const std::string clear = "\r\033[K";
  const size_t second = printed.rfind(clear);
  EXPECT_THAT(printed.substr(0, second),
              AllOf(StartsWith(clear + "step 1/2"), Not(HasSubstr("\n"))));
  EXPECT_THAT(printed.substr(second), AllOf(StartsWith(clear + "step 2/2"), EndsWith("\n")));
}

TEST(LiveProgress, PrintsLinesAboveTheLiveLine) {
  const std::string printed = Printed([] {
    ProgressLine progress(100, ProgressStyle::kLive);
    progress.Show(Record(1));
    progress.PrintLine("validation loss 2");
  });
  EXPECT_THAT(printed, EndsWith("\r\033[Kvalidation loss 2\n"));
}

}  // namespace
}  // namespace unipool
