#include "launch/train/step_record.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/launch/train/step_records.h"

namespace unipool {
namespace {

using testing::Record;
using testing::Validated;

TEST(ToJson, HasOnlyAValidationBeforeTraining) {
  StepRecord record;
  record.validation = Validation{.loss = 5.5, .bits_per_byte = std::nullopt};
  const nlohmann::json json = nlohmann::json::parse(ToJson(record));
  EXPECT_EQ(json.size(), 4u) << json;
  EXPECT_EQ(json["step"], 0);
  EXPECT_EQ(json["validation_loss"], 5.5);
  EXPECT_FALSE(json.contains("lm_loss"));
}

TEST(ToJson, AValidationMayComeWithoutTraining) {
  StepRecord record;
  record.step = 7;
  record.has_training = false;
  record.validation = Validation{.loss = 5.5, .bits_per_byte = std::nullopt};
  const nlohmann::json json = nlohmann::json::parse(ToJson(record));
  EXPECT_EQ(json["step"], 7);
  EXPECT_FALSE(json.contains("lm_loss"));
}

TEST(ToJson, TheTestPartHasItsOwnNames) {
  StepRecord record = Validated(9);
  record.test = Validation{.loss = 2.5, .bits_per_byte = std::nullopt};
  const nlohmann::json json = nlohmann::json::parse(ToJson(record));
  EXPECT_EQ(json["validation_loss"], 2);
  EXPECT_EQ(json["test_loss"], 2.5);
  EXPECT_TRUE(json.contains("test_perplexity"));
  EXPECT_FALSE(json.contains("test_bits_per_byte"));
}

TEST(ToJson, KeepsEveryBitOfANumber) {
  const nlohmann::json expected = {{"step", 7},
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
  EXPECT_EQ(nlohmann::json::parse(ToJson(Record(7))), expected);
}

TEST(ToJson, NumbersThatAreNotFiniteAreNull) {
  StepRecord record = Validated(1);
  record.lm_loss = std::numeric_limits<double>::quiet_NaN();
  record.grad_norm = -std::numeric_limits<double>::infinity();
  record.validation->bits_per_byte = std::numeric_limits<double>::infinity();
  const nlohmann::json json = nlohmann::json::parse(ToJson(record));
  EXPECT_TRUE(json.at("lm_loss").is_null());
  EXPECT_TRUE(json.at("grad_norm").is_null());
  EXPECT_TRUE(json.at("validation_bits_per_byte").is_null());
  EXPECT_EQ(json.at("validation_loss"), 2.0);
}

TEST(ToJson, HasAValidationOnlyIfThereWasOne) {
  const nlohmann::json without = nlohmann::json::parse(ToJson(Record(3)));
  nlohmann::json with = nlohmann::json::parse(ToJson(Validated(3)));
  EXPECT_EQ(with.at("validation_loss"), 2.0);
  EXPECT_EQ(with.at("validation_perplexity"), std::exp(2.0));
  EXPECT_EQ(with.at("validation_bits_per_byte"), 1.5);
  for (const char* name : {"loss", "perplexity", "bits_per_byte"}) {
    with.erase(absl::StrCat("validation_", name));
  }
  EXPECT_EQ(with, without);
}

TEST(Validation, PerplexityOfALossThatExplodedStaysFinite) {
  EXPECT_EQ((Validation{.loss = 1e9, .bits_per_byte = 1}).perplexity(), std::exp(20.0));
}

}  // namespace
}  // namespace unipool
