#include "data/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace unipool {
namespace {

using ::testing::ElementsAre;

TEST(ByteTokenizer, AppendsOneIdAByte) {
  std::vector<int32_t> ids = {7};
  CreateByteTokenizer()->Encode("A\xff", &ids);
  EXPECT_THAT(ids, ElementsAre(7, 65, 255));
}

TEST(ByteTokenizer, DecodesEveryByteAndSkipsTheEndOfDocument) {
  const auto tokenizer = CreateByteTokenizer();
  std::string text;
  for (int byte = 0; byte < 256; ++byte) text.push_back(static_cast<char>(byte));
  std::vector<int32_t> ids = {tokenizer->end_of_document()};
  tokenizer->Encode(text, &ids);
  ids.push_back(tokenizer->end_of_document());
  EXPECT_EQ(tokenizer->Decode(ids), text);
}

TEST(ByteTokenizer, CountsOneByteATokenAndNoneForTheEndOfDocument) {
  const auto tokenizer = CreateByteTokenizer();
  EXPECT_EQ(tokenizer->vocab(), 257);
  EXPECT_EQ(tokenizer->end_of_document(), 256);
  EXPECT_EQ(tokenizer->NumBytes(0), 1);
  EXPECT_EQ(tokenizer->NumBytes(255), 1);
  EXPECT_EQ(tokenizer->NumBytes(256), 0);
}

TEST(ByteTokenizer, SplitsAnywhereButInsideOfACharacter) {
  const auto tokenizer = CreateByteTokenizer();
  for (const auto& [text, split] :
       std::vector<std::pair<std::string, size_t>>{{"", 0},
                                                   {"a", 1},
                                                   {"abcdef", 6},
                                                   {"ab\xc3", 2},
                                                   {"ab\xc3\xa9", 4},
                                                   {"ab\xe4\xb8", 2},
                                                   {"ab\xf0\x9f\x98", 2},
                                                   {"ab\xf0\x9f\x98\x80", 6},
                                                   {"\x80\x80\x80\x80\x80", 5}}) {
    EXPECT_EQ(tokenizer->SplitPoint(text, 0), split) << text;
  }
  EXPECT_EQ(tokenizer->SplitPoint("ab\xc3", 2), 0u);
}

TEST(ByteTokenizerDeathTest, AnIdOutsideTheVocabularyIsACallersError) {
  EXPECT_DEATH((void)CreateByteTokenizer()->NumBytes(257), "257");
}

}  // namespace
}  // namespace unipool
