#include "runtime/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
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
                                                        {"{\"a\" 1}", "at byte 6"}}) {
    SCOPED_TRACE(text);
    EXPECT_STATUS(Json::Parse(text), kInvalidArgument, message);
  }
}

TEST(Json, NumbersBeyondADoubleAreInfinite) {
  const std::string digits(400, '9');
  for (const auto& [text, sign] :
       std::vector<std::pair<std::string, int>>{{"1e999", 1},
                                                {"-1e999", -1},
                                                {digits, 1},
                                                {"-" + digits, -1},
                                                {digits + ".5E+3", 1},
                                                {"-0.1e99999999999999999999", -1},
                                                {"1.8e308", 1}}) {
    const auto json = Json::Parse(absl::StrCat("[1, ", text, ", 2.5]"));
    ASSERT_OK(json);
    EXPECT_EQ(json->elements()[1].number(), sign * std::numeric_limits<double>::infinity()) << text;
    EXPECT_EQ(json->elements()[2].number(), 2.5);
  }
  EXPECT_EQ(Json::Parse("1.7976931348623157e308")->number(), std::numeric_limits<double>::max());
  EXPECT_EQ(Json::Parse("1e-999")->number(), 0);
  EXPECT_EQ(Json::Parse("0e999")->number(), 0);
}

TEST(Json, PythonsNamesOfNumbersAreRead) {
  const Json json =
      Json::Parse(R"({"NaN": "NaN", "n": NaN, "x": [Infinity,-Infinity,-0.0]})").value();
  EXPECT_EQ(json.at("NaN"), "NaN");
  EXPECT_TRUE(std::isnan(json.at("n").number()));
  EXPECT_EQ(json.at("x").elements()[0].number(), std::numeric_limits<double>::infinity());
  EXPECT_EQ(json.at("x").elements()[1].number(), -std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(Json::Parse("NaN")->number()));
  EXPECT_EQ(Json::Parse(R"(["a\\\"NaN", "\\", "Infinity"])")->Dump(),
            R"(["a\\\"NaN","\\","Infinity"])");
}

TEST(Json, OtherWordsAreNotNumbers) {
  for (const char* text : {"nan", "inf", "-NaN", "+Infinity", "NaNs", "Infinit", "- Infinity",
                           "NaN NaN", "1NaN", "nulNaN", "{NaN: 1}", "01e999", "1.e999", ".1e999",
                           "+1e999", "1e999e9", "1e", "1e999.5", "\"NaN"}) {
    SCOPED_TRACE(text);
    EXPECT_STATUS(Json::Parse(text), kInvalidArgument, "not valid JSON");
  }
}

TEST(Json, HalfOfASurrogatePairIsNamed) {
  for (const auto& [text, message] : std::vector<std::pair<std::string, std::string>>{
           {R"(["\ud800"])", R"(at byte 3: \ud800 is half of a surrogate pair)"},
           {R"(["a\uDC00b"])", R"(at byte 4: \uDC00 is half)"},
           {R"(["\ud800x"])", R"(at byte 3: \ud800)"},
           {R"(["\udbff\n"])", R"(at byte 3: \udbff)"},
           {R"(["\ud83d\u0041"])", R"(at byte 3: \ud83d)"},
           {R"(["\ud83d\ud83d\ude00"])", R"(at byte 3: \ud83d)"},
           {R"(["\ud83d\ude00\ude00"])", R"(at byte 15: \ude00)"},
           {R"(["\ud800)", R"(at byte 3: \ud800)"}}) {
    EXPECT_STATUS(Json::Parse(text), kInvalidArgument, message);
  }
  EXPECT_EQ(Json::Parse(R"("\ud83d\ude00")").value(), "\xf0\x9f\x98\x80");
}

TEST(Json, MessagesShowLittleOfAValue) {
  EXPECT_EQ(Json(1.5).Shown(), "1.5");
  EXPECT_EQ(Json::Parse("[NaN]")->elements()[0].Shown(), "NaN");
  EXPECT_EQ(Json::Parse("[-1e999]")->elements()[0].Shown(), "a number beyond 1.8e308");
  EXPECT_EQ(Json(std::vector<int>(1000)).Shown(), "an array");
  EXPECT_EQ(Json("a\nb").Shown(), R"("a\nb")");
  EXPECT_LT(Json(std::string(1'000'000, 'q')).Shown().size(), 90u);
  const auto refused = Json::Parse("[\"" + std::string(1'000'000, 'q'));
  EXPECT_STATUS(refused, kInvalidArgument, "not valid JSON at byte 1000003");
  EXPECT_LT(refused.status().message().size(), 100u);
}

TEST(Json, AZeroByteIsNotTheEnd) {
  for (const char* text : {"[1]0", "[1] 0[2]", "10", "0"}) {
    std::string with_zero = text;
    std::replace(with_zero.begin(), with_zero.end(), '0', '\0');
    EXPECT_STATUS(Json::Parse(with_zero), kInvalidArgument,
                  absl::StrCat("at byte ", with_zero.find('\0') + 1));
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
