#include "launch/train/step_record.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "absl/strings/match.h"
#include "runtime/json.h"
#include "tests/launch/train/step_records.h"

namespace unipool {
namespace {

using testing::Record;
using testing::Validated;

Json Parsed(const StepRecord& record) { return Json::Parse(ToJson(record)).value(); }

TEST(ToJson, HasOnlyAValidationBeforeTraining) {
  StepRecord record;
  record.validation = Validation{.loss = 5.5, .bits_per_byte = std::nullopt};
  const Json json = Parsed(record);
  EXPECT_EQ(json.members().size(), 4u) << json.Dump();
  EXPECT_EQ(json.at("step").number(), 0);
  EXPECT_EQ(json.at("validation_loss").number(), 5.5);
  EXPECT_EQ(json.Find("lm_loss"), nullptr);
}

TEST(ToJson, AValidationMayComeWithoutTraining) {
  StepRecord record;
  record.step = 7;
  record.has_training = false;
  record.validation = Validation{.loss = 5.5, .bits_per_byte = std::nullopt};
  const Json json = Parsed(record);
  EXPECT_EQ(json.at("step").number(), 7);
  EXPECT_EQ(json.Find("lm_loss"), nullptr);
}

TEST(ToJson, TheTestPartHasItsOwnNames) {
  StepRecord record = Validated(9);
  record.test = Validation{.loss = 2.5, .bits_per_byte = std::nullopt};
  const Json json = Parsed(record);
  EXPECT_EQ(json.at("validation_loss").number(), 2);
  EXPECT_EQ(json.at("test_loss").number(), 2.5);
  EXPECT_NE(json.Find("test_perplexity"), nullptr);
  EXPECT_EQ(json.Find("test_bits_per_byte"), nullptr);
}

TEST(ToJson, KeepsEveryBitOfANumber) {
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

TEST(ToJson, HasAValidationOnlyIfThereWasOne) {
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

TEST(Validation, PerplexityOfALossThatExplodedStaysFinite) {
  EXPECT_EQ((Validation{.loss = 1e9, .bits_per_byte = 1}).perplexity(), std::exp(20.0));
}

}  // namespace
}  // namespace unipool
