#include "data/gpt2_pretokenizer.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pcre2.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;

const Gpt2Pretokenizer& Pretokenizer() {
  static const auto* const kPretokenizer = Gpt2Pretokenizer::Create().value().release();
  return *kPretokenizer;
}

std::vector<std::string> Pieces(absl::string_view text) {
  std::vector<std::string> pieces;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = Pretokenizer().PieceEnd(text, begin);
    EXPECT_GT(end, begin);
    if (end <= begin) break;
    pieces.emplace_back(text.substr(begin, end - begin));
    begin = end;
  }
  return pieces;
}

// The pieces according to PCRE2 and the regular expression itself. The text must be valid UTF-8.
std::vector<std::string> PiecesOfRegex(const std::string& text) {
  constexpr char kPattern[] =
      R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
  int error = 0;
  PCRE2_SIZE at = 0;
  pcre2_code* const code =
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(kPattern), PCRE2_ZERO_TERMINATED,
                    PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
  pcre2_match_data* const match = pcre2_match_data_create_from_pattern(code, nullptr);
  std::vector<std::string> pieces;
  at = 0;
  while (pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                     PCRE2_NO_UTF_CHECK, match, nullptr) > 0) {
    const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(match);
    EXPECT_EQ(ends[0], at) << "every character is in a piece";
    pieces.push_back(text.substr(ends[0], ends[1] - ends[0]));
    at = ends[1];
  }
  EXPECT_EQ(at, text.size());
  pcre2_match_data_free(match);
  pcre2_code_free(code);
  return pieces;
}

std::string Utf8(uint32_t code) {
  if (code < 0x80) return {static_cast<char>(code)};
  const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  constexpr uint32_t kLead[] = {0, 0xC0, 0xE0, 0xF0};
  std::string text(1, static_cast<char>(kLead[more] | code >> 6 * more));
  for (int i = more - 1; i >= 0; --i)
    text.push_back(static_cast<char>(0x80 | (code >> 6 * i & 63)));
  return text;
}

// A random character, most often one that is common in English or code. Never U+180E, which is
// white space for PCRE2 but not for the original tokenizer.
std::string RandomCharacter(std::mt19937& random) {
  struct Range {
    uint32_t first, last;
  };
  constexpr Range kRanges[] = {
      {0, 0x7F},          {' ', ' '},       {'a', 'z'},       {'A', 'Z'},
      {'0', '9'},         {'!', '/'},       {9, 13},          {0x80, 0x24F},
      {0x300, 0x5FF},     {0x600, 0xFFF},   {0x1000, 0x1807}, {0x1810, 0x1FFF},
      {0x2000, 0x2FFF},   {0x3000, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, 0x1F9FF},
      {0x20000, 0x10FFFF}};
  const Range& range = kRanges[random() % std::size(kRanges)];
  return Utf8(range.first + random() % (range.last - range.first + 1));
}

std::string RandomText(std::mt19937& random) {
  constexpr const char* kParts[] = {
      "'s",  "'t",  "'re",    "'ve",     "'m",     "'ll",   "'d",   "'",  "'S",  "''", "  ",
      "   ", " \n", "\u3000", "\u00A0 ", "\u0085", "don't", " the", "12", "...", " !", "\r\n"};
  std::string text;
  const size_t parts = random() % 40;
  for (size_t i = 0; i < parts; ++i) {
    text += random() % 2 == 0 ? RandomCharacter(random) : kParts[random() % std::size(kParts)];
  }
  return text;
}

TEST(Gpt2Pretokenizer, SplitsLikeTheRegex) {
  std::mt19937 random(1);
  for (int i = 0; i < 5000; ++i) {
    const std::string text = RandomText(random);
    ASSERT_EQ(Pieces(text), PiecesOfRegex(text)) << text;
  }
}

TEST(Gpt2Pretokenizer, SplitsEveryCodePointLikeTheRegex) {
  std::string text;
  for (uint32_t code = 0; code < 0x110000; ++code) {
    // After a letter, after a number and after a symbol, so that its class decides the pieces.
    const bool is_text = (code < 0xD800 || code > 0xDFFF) && code != 0x180E;
    if (is_text) text += absl::StrCat("a", Utf8(code), "1", Utf8(code), ".", Utf8(code));
  }
  EXPECT_TRUE(Pieces(text) == PiecesOfRegex(text));
}

TEST(Gpt2Pretokenizer, AnInvalidByteIsOneCharacter) {
  EXPECT_THAT(Pieces("a\xff\xfe!b"), ElementsAre("a", "\xff\xfe!", "b"));
  EXPECT_THAT(Pieces(" \x80 1"), ElementsAre(" \x80", " 1"));
  // Truncated, overlong, a surrogate, above U+10FFFF.
  for (const std::string invalid : {"\xC3", "\xE4\xB8", "\xF0\x9F\x98", "\xC0\xAF", "\xE0\x80\xAF",
                                    "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF8\x88\x80\x80\x80"}) {
    EXPECT_THAT(Pieces(absl::StrCat("x", invalid, "y")), ElementsAre("x", invalid, "y"));
    EXPECT_THAT(Pieces(absl::StrCat("x", invalid)), ElementsAre("x", invalid));
  }
}

// Each byte that is not valid UTF-8 is treated like a symbol.
TEST(Gpt2Pretokenizer, InvalidBytesAreSplitLikeSymbols) {
  std::mt19937 random(2);
  for (int i = 0; i < 2000; ++i) {
    std::string text, symbols;
    for (size_t part = random() % 20; part > 0; --part) {
      const bool is_invalid = random() % 2 == 0;
      const std::string valid = RandomText(random);
      text += is_invalid ? "\xFF" : valid;
      symbols += is_invalid ? "\x01" : valid;
    }
    std::vector<std::string> pieces = Pieces(text);
    for (std::string& piece : pieces) std::replace(piece.begin(), piece.end(), '\xFF', '\x01');
    ASSERT_EQ(pieces, PiecesOfRegex(symbols)) << text;
  }
}

// Whatever precedes and follows, the pieces of the two parts are those of the whole.
TEST(Gpt2Pretokenizer, ATextCanBeSplitAtABoundary) {
  std::mt19937 random(7);
  int splits = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string text = RandomText(random);
    if (random() % 4 == 0) text.insert(random() % (text.size() + 1), "\xF0\x9F");
    const std::string all = text + RandomText(random);
    text.resize(text.size() - random() % std::min<size_t>(5, text.size() + 1));
    const size_t begin = random() % (text.size() + 1);
    const size_t split = Pretokenizer().LastBoundary(text, begin);
    if (split == 0) continue;
    ++splits;
    ASSERT_TRUE(begin < split && split <= text.size());
    std::vector<std::string> pieces = Pieces(absl::string_view(all).substr(0, split));
    const std::vector<std::string> rest = Pieces(absl::string_view(all).substr(split));
    pieces.insert(pieces.end(), rest.begin(), rest.end());
    ASSERT_EQ(pieces, Pieces(all));
  }
  EXPECT_GT(splits, 10'000);
}

TEST(Gpt2Pretokenizer, TheLastBoundaryIsNearTheEnd) {
  EXPECT_EQ(Pretokenizer().LastBoundary("one two three", 0), 7u);
  EXPECT_EQ(Pretokenizer().LastBoundary("one two three", 7), 0u);
  EXPECT_EQ(Pretokenizer().LastBoundary("call(argument)", 0), 5u);
  EXPECT_EQ(Pretokenizer().LastBoundary("it's nothing", 0), 4u);
  EXPECT_EQ(Pretokenizer().LastBoundary("it'swhole", 0), 2u);
  EXPECT_EQ(Pretokenizer().LastBoundary("", 0), 0u);
  EXPECT_EQ(Pretokenizer().LastBoundary(std::string(100'000, 'a'), 0), 0u);
}

TEST(Gpt2Pretokenizer, WhiteSpaceIsThatOfUnicode) {
  EXPECT_THAT(Pieces("a\u180Eb"), ElementsAre("a", "\u180E", "b"));
  EXPECT_THAT(Pieces("\u180E!"), ElementsAre("\u180E!"));
  EXPECT_THAT(Pieces("\x1C!"), ElementsAre("\x1C!"));
  EXPECT_THAT(Pieces("a\u0085\u2003b"), ElementsAre("a", "\u0085", "\u2003", "b"));
}

}  // namespace
}  // namespace unipool
