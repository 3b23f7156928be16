#include "data/prepare/json_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

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
  std::string text = "old";
  EXPECT_OK(TextOfJson(line, "text", &text));
  return text;
}

absl::Status StatusOfLine(absl::string_view line) {
  std::string text;
  return TextOfJson(line, "text", &text);
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

TEST(TextOfJson, SurvivesDeepNesting) {
  EXPECT_STATUS(StatusOfLine(std::string(1'000'000, '[')), kInvalidArgument, "not valid JSON");
}

}  // namespace
}  // namespace unipool
