#include "launch/train/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "runtime/json.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using testing::TempFolder;

StepRecord Record(int64_t step) {
  return {.step = step,
          .tokens = step * 4096,
          .lm_loss = 1.0 / 3,
          .pool_loss = 1e-300,
          .layer_aux_loss = 0.1,
          .grad_norm = 12345678.9,
          .lr = 5e-4,
          .step_seconds = 2,
          .tokens_per_second = 2048,
          .exposed_comm_seconds = 0.25,
          .layer_imbalance = 0,
          .pool_imbalance = 0,
          .unrouted_share = 0,
          .skipped_updates = 2,
          .rewinds = 1,
          .validation = {},
          .test = {}};
}

StepRecord Validated(int64_t step) {
  StepRecord record = Record(step);
  record.validation = Validation{.loss = 2, .bits_per_byte = 1.5};
  return record;
}

// What `body` writes to standard output.
template <typename Body>
std::string Printed(const Body& body) {
  ::testing::internal::CaptureStdout();
  body();
  return ::testing::internal::GetCapturedStdout();
}

Json Parsed(const StepRecord& record) { return Json::Parse(ToJson(record)).value(); }

TEST(ToJson, BeforeTrainingThereIsNothingButTheValidation) {
  StepRecord record;
  record.validation = Validation{.loss = 5.5, .bits_per_byte = std::nullopt};
  const Json json = Parsed(record);
  EXPECT_EQ(json.members().size(), 4u) << json.Dump();
  EXPECT_EQ(json.at("step").number(), 0);
  EXPECT_EQ(json.at("validation_loss").number(), 5.5);
  EXPECT_EQ(json.Find("lm_loss"), nullptr);
}

TEST(ToJson, AValidationThatWasCutShortComesLaterByItself) {
  StepRecord record;
  record.step = 7;
  record.has_training = false;
  record.validation = Validation{.loss = 5.5, .bits_per_byte = std::nullopt};
  const Json json = Parsed(record);
  EXPECT_EQ(json.at("step").number(), 7);
  EXPECT_EQ(json.Find("lm_loss"), nullptr);
}

TEST(ToJson, TheTestPartHasNamesOfItsOwn) {
  StepRecord record = Validated(9);
  record.test = Validation{.loss = 2.5, .bits_per_byte = std::nullopt};
  const Json json = Parsed(record);
  EXPECT_EQ(json.at("validation_loss").number(), 2);
  EXPECT_EQ(json.at("test_loss").number(), 2.5);
  EXPECT_NE(json.Find("test_perplexity"), nullptr);
  EXPECT_EQ(json.Find("test_bits_per_byte"), nullptr);
}

TEST(ToJson, KeepsEveryNumberToTheLastBit) {
  const std::map<std::string, double> expected = {{"step", 7},
                                                  {"tokens", 28672},
                                                  {"lm_loss", 1.0 / 3},
                                                  {"pool_loss", 1e-300},
                                                  {"lr", 5e-4},
                                                  {"layer_aux_loss", 0.1},
                                                  {"step_seconds", 2.0},
                                                  {"grad_norm", 12345678.9},
                                                  {"pool_imbalance", 0},
                                                  {"unrouted_share", 0},
                                                  {"skipped_updates", 2},
                                                  {"rewinds", 1},
                                                  {"tokens_per_second", 2048.0},
                                                  {"layer_imbalance", 0},
                                                  {"exposed_comm_seconds", 0.25},
                                                  {"checkpoint_stall_seconds", 0},
                                                  {"checkpoint_gigabytes_per_second", 0}};
  std::map<std::string, double> found;
  const Json json = Parsed(Record(7));
  for (const auto& [name, value] : json.members()) found[name] = value.number();
  EXPECT_EQ(found, expected);
}

TEST(ToJson, NumbersThatAreNotFiniteAreNull) {
  StepRecord record = Validated(1);
  record.lm_loss = std::numeric_limits<double>::quiet_NaN();
  record.grad_norm = -std::numeric_limits<double>::infinity();
  record.validation->bits_per_byte = std::numeric_limits<double>::infinity();
  const Json json = Parsed(record);
  EXPECT_TRUE(json.at("lm_loss").is_null());
  EXPECT_TRUE(json.at("grad_norm").is_null());
  EXPECT_TRUE(json.at("validation_bits_per_byte").is_null());
  EXPECT_EQ(json.at("validation_loss").number(), 2.0);
}

TEST(ToJson, ValidationIsThereOnlyWhereItWasDone) {
  const Json without = Parsed(Record(3)), with = Parsed(Validated(3));
  EXPECT_EQ(with.at("validation_loss").number(), 2.0);
  EXPECT_EQ(with.at("validation_perplexity").number(), std::exp(2.0));
  EXPECT_EQ(with.at("validation_bits_per_byte").number(), 1.5);
  Json rest = Json::Object();
  for (const auto& [name, value] : with.members()) {
    if (!absl::StartsWith(name, "validation_")) rest[name] = value;
  }
  EXPECT_EQ(rest, without);
  EXPECT_EQ(with.members().size(), without.members().size() + 3);
}

TEST(MetricsFile, HoldsALineARecordWhileTheRunGoesOn) {
  const TempFolder folder;
  folder.Write("metrics.jsonl", "of a run before\n");
  const auto file = MetricsFile::Create(folder.Path("metrics.jsonl")).value();
  ASSERT_OK(file->Write(Validated(0)));
  EXPECT_EQ(folder.ReadAll("metrics.jsonl"), ToJson(Validated(0)) + "\n");
  ASSERT_OK(file->Write(Record(1)));
  EXPECT_EQ(folder.ReadAll("metrics.jsonl"),
            ToJson(Validated(0)) + "\n" + ToJson(Record(1)) + "\n");
}

// What Continue says on standard error, and the file then, of one that held `text`.
std::pair<std::string, std::string> Continued(const std::string& text, int64_t step) {
  const TempFolder folder;
  folder.Write("metrics.jsonl", text);
  ::testing::internal::CaptureStderr();
  EXPECT_OK(MetricsFile::Continue(folder.Path("metrics.jsonl"), step));
  return {::testing::internal::GetCapturedStderr(), folder.ReadAll("metrics.jsonl")};
}

TEST(MetricsFile, RecordsThatAreMissingAreToldInALine) {
  const std::string kept = ToJson(Validated(0)) + "\n" + ToJson(Record(1)) + "\n";
  const std::string later = ToJson(Record(2)) + "\n";
  for (const auto& [text, step, said] :
       {std::tuple(kept, 1, std::string()),
        {kept + later, 1, ""},
        {kept, 4, "metrics.jsonl: the records of steps 2 to 4 are missing"},
        {kept + later.substr(0, 20), 2,
         "metrics.jsonl: half a line at the end is removed; the records of steps 2 to 2 are"},
        {kept + later.substr(0, 20), 1, "metrics.jsonl: half a line at the end is removed\n"},
        {std::string(), 0, ""},
        {std::string(), 3, "the records of steps 1 to 3 are missing"}}) {
    const auto [told, left] = Continued(text, step);
    EXPECT_EQ(left, text.substr(0, kept.size()));
    EXPECT_THAT(told, HasSubstr(said));
    if (said.empty()) {
      EXPECT_EQ(told, "") << step;
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

TEST(MetricsFile, APartOfALineNeverStays) {
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

// Not a tenth of it, as a mean that begins at 0 would say.
TEST(PlainProgress, TheTimeLeftOfARunThatGoesOnIsThatOfItsSteps) {
  const std::string printed = Printed([] {
    ProgressLine progress(100, false);
    progress.Show(Record(61));
  });
  EXPECT_THAT(printed, ::testing::HasSubstr("left 1m18s"));
}

TEST(MetricsFile, AFileThatCannotBeMadeNamesThePathAndTheReason) {
  const TempFolder folder;
  const std::string path = folder.Path("missing/metrics.jsonl");
  EXPECT_STATUS(MetricsFile::Create(path), kFailedPrecondition,
                path + ": cannot be written: No such file or directory");
}

TEST(PlainProgress, ShowsTheFirstTheLastAndValidatedSteps) {
  const std::string printed = Printed([] {
    ProgressLine progress(100, false);
    for (int64_t step = 1; step <= 100; ++step) {
      progress.Show(step == 40 ? Validated(step) : Record(step));
    }
    progress.Say("done");
  });
  std::string expected;
  for (const auto& [step, left] : {std::pair(1, "3m18s"), {40, "2m00s"}, {100, "0s"}}) {
    absl::StrAppend(&expected, "step ", step, "/100  loss 0.3333  lr 5.00e-04  norm 12345678.90  ",
                    "2048 tokens/s  left ", left, "\n");
  }
  EXPECT_EQ(printed, expected + "done\n");
}

TEST(PlainProgress, ShowsImbalanceWhereThereIsOne) {
  const std::string printed = Printed([] {
    StepRecord record = Record(1);
    record.layer_imbalance = 1.5;
    record.pool_imbalance = 1.25;
    ProgressLine(5000, false).Show(record);
  });
  EXPECT_THAT(printed, EndsWith("left 2h46m  imbalance layer 1.50 pool 1.25\n"));
}

TEST(LiveProgress, WritesOverItsOwnLine) {
  const std::string printed = Printed([] {
    ProgressLine progress(2, true);
    progress.Show(Record(1));
    progress.Show(Record(2));
  });
  const std::string clear = "\r\033[K";
  const size_t second = printed.rfind(clear);
  EXPECT_THAT(printed.substr(0, second),
              AllOf(StartsWith(clear + "step 1/2"), Not(HasSubstr("\n"))));
  EXPECT_THAT(printed.substr(second), AllOf(StartsWith(clear + "step 2/2"), EndsWith("\n")));
}

TEST(LiveProgress, SaysThingsAboveTheLiveLine) {
  const std::string printed = Printed([] {
    ProgressLine progress(100, true);
    progress.Show(Record(1));
    progress.Say("validation loss 2");
  });
  EXPECT_THAT(printed, EndsWith("\r\033[Kvalidation loss 2\n"));
}

TEST(Validation, PerplexityOfALossThatExplodedStaysFinite) {
  EXPECT_EQ((Validation{.loss = 1e9, .bits_per_byte = 1}).perplexity(), std::exp(20.0));
}

}  // namespace
}  // namespace unipool
