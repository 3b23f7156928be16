#include "runtime/quote.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/utf8.h"

namespace unipool {
namespace {

TEST(QuoteInput, ShowsPlainTextUnchanged) {
  EXPECT_EQ(QuoteInput(""), "\"\"");
  EXPECT_EQ(QuoteInput("caf\xc3\xa9 \xf0\x9f\x98\x80"), "\"caf\xc3\xa9 \xf0\x9f\x98\x80\"");
  const std::string longest(kMaxQuotedBytes, 'x');
  EXPECT_EQ(QuoteInput(longest), absl::StrCat("\"", longest, "\""));
}

TEST(QuoteInput, EscapesWhatATerminalWouldObey) {
  EXPECT_EQ(QuoteInput("a\n\t\"\\'"), R"("a\n\t\"\\'")");
  EXPECT_EQ(QuoteInput(absl::string_view("\0\x1b[2J\x7f", 6)), R"("\x00\x1b[2J\x7f")");
  EXPECT_EQ(QuoteInput("\xff\xc3(\xc2\x85"), R"("\xff\xc3(\xc2\x85")");
}

TEST(QuoteInput, CutsALongTextAndGivesItsSize) {
  const std::string shown(kMaxQuotedBytes - 1, 'q');
  EXPECT_EQ(QuoteInput(std::string(10'000'000, 'q')),
            absl::StrCat("\"", shown, "q...\" (10000000 bytes)"));
  // A character is never cut in two.
  EXPECT_EQ(QuoteInput(shown + "\xc3\xa9"), absl::StrCat("\"", shown, "...\" (61 bytes)"));
}

TEST(OneLine, KeepsTheWholeMessage) {
  const std::string message = "a \"name\" with \\ and caf\xc3\xa9";
  EXPECT_EQ(OneLine(message), message);
  EXPECT_EQ(OneLine("a\nb\x1b.jsonl: \xff"), "a\\nb\\x1b.jsonl: \\xff");
  EXPECT_EQ(OneLine(std::string(1000, 'x')).size(), 1000u);
}

TEST(QuoteInput, AnyBytesBecomeAShortLineOfUtf8) {
  std::mt19937 random(4);
  for (int i = 0; i < 2000; ++i) {
    std::string text(random() % 200, '\0');
    for (char& byte : text) byte = static_cast<char>(random());
    const std::string quoted = QuoteInput(text);
    EXPECT_LE(quoted.size(), kMaxQuotedBytes + 20);
    EXPECT_EQ(ValidUtf8Bytes(quoted), quoted.size());
    EXPECT_TRUE(
        std::none_of(quoted.begin(), quoted.end(), [](char c) { return 0 <= c && c < 32; }));
  }
}

TEST(CutInput, KeepsShortPrintableTextAndQuotesTheRest) {
  EXPECT_EQ(CutInput(""), "");
  EXPECT_EQ(CutInput("model.layers = 4"), "model.layers = 4");
  EXPECT_EQ(CutInput("two\nlines"), "\"two\\nlines\"");
  EXPECT_EQ(CutInput(std::string(60, 'x')), std::string(60, 'x'));
  EXPECT_EQ(CutInput(std::string(61, 'x')), "\"" + std::string(60, 'x') + "...\" (61 bytes)");
}

}  // namespace
}  // namespace unipool
