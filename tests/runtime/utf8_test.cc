#include "runtime/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace unipool {
namespace {

// The smallest and largest code of each length, and the codes around the surrogates.
TEST(ValidUtf8Bytes, AcceptsEveryCharacter) {
  const std::string text =
      "a\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"
      "\xf0\x90\x80\x80\xf3\xbf\xbf\xbf\xf4\x8f\xbf\xbf plain words after it";
  EXPECT_EQ(ValidUtf8Bytes(text), text.size());
  EXPECT_EQ(ValidUtf8Bytes(std::string(20, '\0')), 20u);
  EXPECT_EQ(ValidUtf8Bytes(""), 0u);
}

TEST(ValidUtf8Bytes, StopsAtTheFirstInvalidCharacter) {
  for (const char* bad :
       {"\x80", "\xbf", "\xc0\xaf", "\xc1\xbf", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xc2z", "\xe1\x80z", "\xf1\x80\x80z"}) {
    for (const std::string before : {"", "word", "eight of", "nine of a", "\xc3\xa9t\xc3\xa9"}) {
      EXPECT_EQ(ValidUtf8Bytes(before + bad + " and more"), before.size()) << bad;
      EXPECT_EQ(ValidUtf8Bytes(before + bad), before.size()) << bad;
    }
  }
}

TEST(ValidUtf8Bytes, StopsAtATruncatedCharacter) {
  for (const char* cut : {"\xc2", "\xe1\x80", "\xf1\x80\x80"}) {
    EXPECT_EQ(ValidUtf8Bytes(std::string("long enough") + cut), 11u);
  }
}

}  // namespace
}  // namespace unipool
