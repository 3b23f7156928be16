#include "launch/train/progress_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "absl/time/time.h"
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
    ProgressLine progress(100, 0);
    progress.Show(Record(61));
  });
  EXPECT_THAT(printed, ::testing::HasSubstr("ETA 1m18s"));
}

TEST(PlainProgress, ShowsTheFirstTheLastAndValidatedSteps) {
  const std::string printed = Printed([] {
    ProgressLine progress(100, 0);
    for (int64_t step = 1; step <= 100; ++step) {
      progress.Show(step == 40 ? Validated(step) : Record(step));
    }
    progress.PrintLine("done");
  });
  for (const char* start : {"step 1/100  loss 0.3333  ETA 3m18s  2048 tokens/s  2000 ms  ",
                            "\nstep 40/100  loss 0.3333  ETA 2m00s  2048 tokens/s  2000 ms  ",
                            "\nstep 100/100  loss 0.3333  ETA 0s  2048 tokens/s  2000 ms  "}) {
    EXPECT_THAT(printed, HasSubstr(start));
  }
  EXPECT_EQ(std::count(printed.begin(), printed.end(), '\n'), 4);
  EXPECT_THAT(printed, EndsWith("  lr 5.00e-04  norm 12345678.90\ndone\n"));
}

TEST(ProgressText, HasTheMostImportantPartsThatFit) {
  StepRecord record = Record(1);
  record.lm_loss = 2.25;
  record.grad_norm = 1.5;
  record.exposed_comm_seconds = record.step_seconds / 4;
  record.layer_imbalance = 10.5;
  record.pool_imbalance = 1.25;
  record.unrouted_share = 0.08;
  const auto text = [&](int columns) {
    return ProgressText(record, 60000, 0.5, absl::FromUnixSeconds(3723), absl::UTCTimeZone(),
                        columns);
  };
  const std::string first =
      "step 1/60000  loss 2.2500  ETA 8h20m  2048 tokens/s  2000 ms  01:02:03";
  EXPECT_EQ(text(0), first +
                         "  comm 25%  imbalance layer 10.50 pool 1.25  unrouted 8%"
                         "  lr 5.00e-04  norm 1.50");
  EXPECT_EQ(text(80), first);
  EXPECT_EQ(text(81), first + "  comm 25%");
  EXPECT_EQ(text(28), "step 1/60000  loss 2.2500");
  for (int columns = 1; columns < 200; ++columns) {
    EXPECT_LT(text(columns).size(), static_cast<size_t>(columns));
  }
}

TEST(LiveProgress, OverwritesItsLine) {
  const std::string printed = Printed([] {
    ProgressLine progress(2, 80);
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
    ProgressLine progress(100, 80);
    progress.Show(Record(1));
    progress.PrintLine("validation loss 2");
  });
  EXPECT_THAT(printed, EndsWith("\r\033[Kvalidation loss 2\n"));
}

}  // namespace
}  // namespace unipool
