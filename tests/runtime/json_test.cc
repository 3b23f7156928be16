#include "runtime/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;

TEST(Json, ADocumentIsWrittenInTheOrderOfItsMembers) {
  Json json = {{"b", 1}, {"a", "x"}, {"list", std::vector<double>{0.5, 2}}, {"none", Json()}};
  json["flag"] = true;
  json["inner"]["deep"] = -7;
  EXPECT_EQ(json.Dump(),
            R"({"b":1,"a":"x","list":[0.5,2.0],"none":null,"flag":true,"inner":{"deep":-7}})");
}

TEST(Json, WhatIsWrittenIsReadBack) {
  const Json json = {{"i", std::numeric_limits<int64_t>::min()},
                     {"d", 1.0 / 3},
                     {"s", "a\"b\n\u00e9"},
                     {"empty", Json::Array()},
                     {"o", Json::Object()}};
  const absl::StatusOr<Json> read = Json::Parse(json.Dump());
  ASSERT_OK(read);
  EXPECT_EQ(*read, json);
  EXPECT_OK(Json::Parse(json.Dump(2)));
}

TEST(Json, TheLastOfEqualNamesCounts) {
  const Json json = Json::Parse(R"({"a": 1, "a": 2})").value();
  EXPECT_EQ(json.at("a").integer(), 2);
  EXPECT_EQ(json.Find("b"), nullptr);
  EXPECT_EQ(Json(3).Find("a"), nullptr);
}

TEST(Json, UpdateReplacesMembersOfTheSameName) {
  Json json = {{"a", 1}, {"b", 2}};
  json.Update({{"b", 3}, {"c", 4}});
  EXPECT_EQ(json.Dump(), R"({"a":1,"b":3,"c":4})");
}

TEST(Json, IntegersBeyondInt64AreKeptExactly) {
  const Json json = Json::Parse("18446744073709551615").value();
  EXPECT_FALSE(json.is_integer());
  EXPECT_EQ(json.number(), 18446744073709551615.0);
  EXPECT_EQ(json.Dump(), "18446744073709551615");
}

TEST(Json, WhatJsonCannotHoldIsReplaced) {
  EXPECT_EQ(Json(std::nan("")).Dump(), "null");
  EXPECT_EQ(Json("\xff!").Dump(), "\"\xef\xbf\xbd!\"");
}

TEST(Json, MalformedTextIsRefusedWithItsByte) {
  for (const auto& [text, message] :
       std::vector<std::pair<std::string, std::string>>{{"", "at byte 1"},
                                                        {"{\"a\": 1", "at byte 8"},
                                                        {"[1, 2] 3", "at byte 8"},
                                                        {"nul", "at byte 4"},
                                                        {"{\"a\" 1}", "at byte 6"},
                                                        {"[1e999]", "JSON"}}) {
    SCOPED_TRACE(text);
    EXPECT_STATUS(Json::Parse(text), kInvalidArgument, message);
  }
}

TEST(Json, DeepNestingIsRefusedAndEndsNothing) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_OK(Json::Parse(nested(Json::kMaxDepth)));
  EXPECT_STATUS(Json::Parse(nested(Json::kMaxDepth + 1)), kInvalidArgument, "deeper than 256");
  EXPECT_STATUS(Json::Parse(std::string(1 << 22, '[')), kInvalidArgument, "deeper than 256");
  EXPECT_STATUS(Json::Parse(nested(1 << 20)), kInvalidArgument, "deeper than 256");
}

TEST(JsonDeathTest, AValueOfAnotherKindIsACallersError) {
  EXPECT_DEATH((void)Json("x").integer(), "\"x\"");
  EXPECT_DEATH((void)Json({{"a", 1}}).at("b"), "no member 'b'");
}

}  // namespace
}  // namespace unipool
