#include "data/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

TEST(ByteTokenizerDeathTest, AnIdOutsideTheVocabularyIsACallersError) {
  EXPECT_DEATH((void)CreateByteTokenizer()->NumBytes(257), "257");
}

}  // namespace
}  // namespace unipool
