#include "data/prepare/json_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::TempFolder;

std::vector<std::string> Lines(const std::string& path) {
  std::vector<std::string> lines;
  auto reader = LineReader::Open(path);
  EXPECT_OK(reader);
  absl::string_view line;
  while (*reader->Next(&line)) lines.emplace_back(line);
  EXPECT_EQ(reader->line_number(), static_cast<int64_t>(lines.size()));
  return lines;
}

std::string TextOf(absl::string_view line) {
  JsonText found{.text = "old"};
  EXPECT_OK(TextOfJson(line, "text", &found));
  return found.text;
}

absl::Status StatusOfLine(absl::string_view line) {
  JsonText found;
  return TextOfJson(line, "text", &found);
}

TEST(LineReader, AcceptsALastLineWithoutNewline) {
  const TempFolder folder;
  EXPECT_THAT(Lines(folder.Write("a", "one\n\nthree\n")), ElementsAre("one", "", "three"));
  EXPECT_THAT(Lines(folder.Write("b", "one\ntwo")), ElementsAre("one", "two"));
  EXPECT_THAT(Lines(folder.Write("c", "")), IsEmpty());
}

TEST(LineReader, AcceptsLongLinesAndZeroBytes) {
  const TempFolder folder;
  const std::string longer(3'000'000, 'x'), zero("a\0b", 3);
  EXPECT_THAT(Lines(folder.Write("a", longer + "\n" + zero + "\n")), ElementsAre(longer, zero));
}

TEST(LineReader, PassesOverAByteOrderMarkAtTheStart) {
  const TempFolder folder;
  const std::string mark = "\xef\xbb\xbf";
  EXPECT_THAT(Lines(folder.Write("a", mark + "one\n" + mark + "two")),
              ElementsAre("one", mark + "two"));
  EXPECT_THAT(Lines(folder.Write("b", mark)), IsEmpty());
  EXPECT_THAT(Lines(folder.Write("c", "\xef\xbb\n")), ElementsAre("\xef\xbb"));
  LineReader reader = LineReader::Open(folder.Write("d", mark + "one\n")).value();
  std::string block;
  EXPECT_TRUE(reader.NextBlock(1, &block).value());
  EXPECT_EQ(block, "one\n");
}

TEST(LineReader, NamesAMissingFile) {
  EXPECT_STATUS(LineReader::Open("/nowhere/a"), kNotFound, "/nowhere/a: cannot open");
}

TEST(TextOfJson, TakesTheFieldOfTheOutermostObjectOnly) {
  EXPECT_EQ(TextOf(R"({"text": "a"})"), "a");
  EXPECT_EQ(TextOf(R"({"meta": {"text": "no"}, "list": ["text", {"text": 1}], "text": "b"})"), "b");
  EXPECT_EQ(TextOf(R"({"text": "c", "meta": {"text": "no"}})"), "c");
  EXPECT_EQ(TextOf(R"({"text": "first", "text": "last"})"), "last");
  EXPECT_EQ(TextOf(R"({"text": ""})"), "");
}

TEST(TextOfJson, DecodesEscapes) {
  EXPECT_EQ(TextOf(R"({"te\u0078t": "\u00e9\n\ud83d\ude00\u0000."})"),
            std::string("\xc3\xa9\n\xf0\x9f\x98\x80\0.", 9));
}

TEST(TextOfJson, NamesTheProblem) {
  const std::string expected = "; expected an object with a string \"text\"";
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "an empty line"},
      {" \r", "an empty line"},
      {"{\"text\": \"a\"", "not valid JSON at column 13"},
      {"{\"text\": \"a\"} x", "not valid JSON at column"},
      {"{'text': 'a'}", "not valid JSON at column 2"},
      {"{\"text\": \"\xff\"}", "not valid JSON at column 11"},
      {"[\"text\"]", "an array instead of an object"},
      {"\"text\"", "a string instead of an object"},
      {"{}", "no field \"text\""},
      {R"({"a": {"text": "b"}})", "no field \"text\""},
      {R"({"text": 5})", "field \"text\" is a number"},
      {R"({"text": null})", "field \"text\" is null"},
      {R"({"text": ["a"]})", "field \"text\" is an array"}};
  for (const auto& [line, message] : cases) {
    EXPECT_STATUS(StatusOfLine(line), kInvalidArgument, message);
    EXPECT_STATUS(StatusOfLine(line), kInvalidArgument, expected);
  }
}

TEST(TextOfJson, NumbersOfOtherFieldsMayBeSpecial) {
  const auto is_special = [](absl::string_view line) {
    JsonText found{.text = "", .has_special_number = true};
    EXPECT_OK(TextOfJson(line, "text", &found));
    EXPECT_EQ(found.text, "a");
    return found.has_special_number;
  };
  EXPECT_FALSE(is_special(R"({"text": "a", "n": 1e308, "s": "NaN"})"));
  for (const char* number : {"NaN", "Infinity", "-Infinity", "1e999", "-1e999", "[{\"m\": NaN}]"}) {
    EXPECT_TRUE(is_special(absl::StrCat(R"({"n": )", number, R"(, "text": "a"})"))) << number;
  }
  const std::string digits(400, '9');
  EXPECT_TRUE(is_special(absl::StrCat(R"({"text": "a", "n": )", digits, "}")));
  EXPECT_STATUS(StatusOfLine(R"({"text": NaN})"), kInvalidArgument, "field \"text\" is NaN");
  EXPECT_STATUS(StatusOfLine(R"({"text": 1e999})"), kInvalidArgument, "\"text\" is a number");
}

TEST(TextOfJson, NamesHalfOfASurrogatePair) {
  EXPECT_STATUS(StatusOfLine(R"({"text": "ab\ud800"})"), kInvalidArgument,
                "not valid JSON at column 13: \\ud800 is half of a surrogate pair");
  EXPECT_STATUS(StatusOfLine(R"({"id": "\udc01", "text": "a"})"), kInvalidArgument,
                "column 9: \\udc01 is half of a surrogate pair");
}

TEST(TextOfJson, NamesJsonThatIsNotInLines) {
  EXPECT_STATUS(StatusOfLine("{"), kInvalidArgument, "at column 2, the end of the line");
  EXPECT_STATUS(StatusOfLine("["), kInvalidArgument, "; jq -c '.[]' FILE writes the elements");
  EXPECT_STATUS(StatusOfLine(R"([{"text": "a"}])"), kInvalidArgument, "an array instead of");
}

TEST(TextOfJson, MessagesShowLittleOfTheInput) {
  const std::string name(100'000, 'q');
  JsonText found;
  for (const std::string& line :
       {absl::StrCat("{\"", name, "\": 1}"), absl::StrCat("{\"text\": [\"", name, "\"]}"),
        absl::StrCat("\"", name), absl::StrCat("{\"", name, "\": nul"), name}) {
    EXPECT_LT(TextOfJson(line, "text", &found).message().size(), 200u);
    EXPECT_LT(TextOfJson(line, name, &found).message().size(), 300u);
  }
}

TEST(TextOfJson, SurvivesDeepNesting) {
  EXPECT_STATUS(StatusOfLine(std::string(1'000'000, '[')), kInvalidArgument, "not valid JSON");
}

}  // namespace
}  // namespace unipool
