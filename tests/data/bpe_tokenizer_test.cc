#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "data/tokenizer.h"
#include "runtime/json.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using testing::TempFolder;

constexpr char kFolder[] = UNIPOOL_TEST_BPE;  // written by make.py there

std::unique_ptr<Tokenizer> OpenSmall() {
  return OpenGpt2Tokenizer(std::string(kFolder) + "/vocab.json",
                           std::string(kFolder) + "/merges.txt")
      .value();
}

std::vector<int32_t> IdsOf(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<int32_t> ids;
  tokenizer.Encode(text, &ids);
  return ids;
}

std::string RandomBytes(std::mt19937& random, size_t bytes) {
  std::string text(bytes, '\0');
  for (char& byte : text) byte = static_cast<char>(random());
  return text;
}

TEST(Gpt2Tokenizer, GivesTheIdsOfTheReference) {
  const auto tokenizer = OpenSmall();
  const auto encoder = tokenizer->NewEncoder();
  int samples = 0;
  // In the second round from the caches of the encoder.
  for (int round = 0; round < 2; ++round) {
    std::ifstream file(std::string(kFolder) + "/golden.jsonl");
    for (std::string line; std::getline(file, line); ++samples) {
      const Json record = Json::Parse(line).value();
      const std::string text = absl::HexStringToBytes(record.at("hex").string());
      std::vector<int32_t> ids;
      encoder->Encode(text, &ids);
      EXPECT_EQ(Json(ids), record.at("ids")) << absl::CHexEscape(text);
    }
  }
  EXPECT_EQ(samples, 2 * 85);
}

TEST(Gpt2Tokenizer, DecodeUndoesEncodeForAnyBytes) {
  const auto tokenizer = OpenSmall();
  const auto encoder = tokenizer->NewEncoder();
  std::mt19937 random(3);
  std::vector<int32_t> ids;
  for (int i = 0; i < 300; ++i) {
    const std::string text = RandomBytes(random, random() % 300);
    ids.clear();
    encoder->Encode(text, &ids);
    ASSERT_EQ(tokenizer->Decode(ids), text);
    size_t bytes = 0;
    for (const int32_t id : ids) bytes += tokenizer->NumBytes(id);
    ASSERT_EQ(bytes, text.size());
  }
}

TEST(Gpt2Tokenizer, AppendsAndDoesNotReadPastTheText) {
  const auto tokenizer = OpenSmall();
  const auto encoder = tokenizer->NewEncoder();
  const std::string text = "the tokens of the pool";
  for (size_t bytes = 0; bytes <= text.size(); ++bytes) {
    // The copy ends where the text ends, so that a sanitizer detects reading past it.
    const std::vector<char> copy(text.begin(), text.begin() + static_cast<int64_t>(bytes));
    std::vector<int32_t> ids = {7};
    encoder->Encode({copy.data(), bytes}, &ids);
    EXPECT_EQ(ids[0], 7);
    ids.erase(ids.begin());
    EXPECT_EQ(ids, IdsOf(*tokenizer, text.substr(0, bytes)));
  }
}

TEST(Gpt2Tokenizer, PartsBetweenSplitPointsGiveTheIdsOfTheText) {
  const auto tokenizer = OpenSmall();
  std::mt19937 random(5);
  for (int i = 0; i < 500; ++i) {
    std::string text;
    for (size_t words = random() % 60; words > 0; --words) {
      const char* const kParts[] = {" the", "tokens", "'s",     "'",     "  ",
                                    "\n",   "12",     "\u00e9", "\u3000"};
      text += random() % 9 == 0 ? RandomBytes(random, 2) : kParts[random() % std::size(kParts)];
    }
    std::vector<int32_t> ids;
    absl::string_view rest = text;
    for (size_t bytes = 8; bytes < rest.size(); ++bytes) {
      const size_t split = tokenizer->SplitPoint(rest.substr(0, bytes), 0);
      if (split == 0) continue;
      tokenizer->Encode(rest.substr(0, split), &ids);
      rest.remove_prefix(split);
      bytes = 8;
    }
    tokenizer->Encode(rest, &ids);
    ASSERT_EQ(ids, IdsOf(*tokenizer, text)) << absl::CHexEscape(text);
  }
}

TEST(Gpt2Tokenizer, TextNeverEncodesToTheEndOfADocument) {
  const auto tokenizer = OpenSmall();
  const int end = tokenizer->end_of_document();
  EXPECT_EQ(end, tokenizer->vocab() - 1);
  EXPECT_EQ(tokenizer->NumBytes(end), 0);
  EXPECT_EQ(tokenizer->Decode({end, end}), "");
  EXPECT_THAT(IdsOf(*tokenizer, "<|endoftext|>"), ::testing::Not(::testing::Contains(end)));
}

TEST(Gpt2Tokenizer, AMegabyteWithoutSpacesIsOnePiece) {
  const auto tokenizer = OpenSmall();
  std::string text;
  while (text.size() < 1'000'000) text += "tokensexperts";
  const std::vector<int32_t> ids = IdsOf(*tokenizer, text);
  EXPECT_EQ(tokenizer->Decode(ids), text);
  EXPECT_LT(ids.size(), text.size());
}

TEST(Gpt2TokenizerDeathTest, AnIdOutsideTheVocabularyIsACallersError) {
  EXPECT_DEATH((void)OpenSmall()->NumBytes(100000), "100000");
}

// Writes vocabularies of the 256 bytes, the end of a document and more tokens, and damages them.
class DamagedVocabulary : public ::testing::Test {
 protected:
  static std::string BytesOfVocab() {
    std::stringstream text_of_file;
    text_of_file << std::ifstream(std::string(kFolder) + "/vocab.json").rdbuf();
    const Json small = Json::Parse(text_of_file.str()).value();
    std::vector<std::string> names(small.members().size());
    for (const auto& [name, id] : small.members()) names[id.integer()] = name;
    names.resize(256);
    std::string text;
    for (size_t i = 0; i < names.size(); ++i) {
      text += Json(names[i]).Dump() + ": " + std::to_string(i) + ", ";
    }
    return text;
  }

  std::string Vocab(const std::string& more) const {
    return absl::StrCat("{", BytesOfVocab(), more, "}");
  }

  absl::Status Open(const std::string& vocab, const std::string& merges) const {
    return OpenGpt2Tokenizer(folder_.Write("v.json", vocab), folder_.Write("m.txt", merges))
        .status();
  }

  const std::string end_ = R"("<|endoftext|>": 256)";
  const std::string more_ = end_ + R"(, "ab": 257, "abc": 258)";
  const std::string merges_ = "#version: 0.2\na b\nab c\n";
  TempFolder folder_;
};

TEST_F(DamagedVocabulary, IntactFilesAreAccepted) {
  EXPECT_OK(Open(Vocab(more_), merges_));
  EXPECT_OK(Open(Vocab(more_), "a b\nab c"));
  EXPECT_OK(Open(Vocab(end_), ""));
}

TEST_F(DamagedVocabulary, FilesFromWindowsAreAccepted) {
  const std::string mark = "\xef\xbb\xbf";
  EXPECT_OK(Open(mark + Vocab(more_) + "\r\n", mark + "#version: 0.2\r\na b\r\nab c\r\n"));
  EXPECT_OK(Open(Vocab(more_), mark + "a b\nab c"));
  EXPECT_OK(Open(Vocab(more_), "a b\r\nab c\r\n\r\n\n"));
  EXPECT_OK(Open(Vocab(more_), "a b\nab c\n  \n"));
  EXPECT_OK(Open(Vocab(end_), mark + "\r\n"));
  EXPECT_STATUS(Open(Vocab(more_), "a b\r\n\r\nab c\r\n"), kInvalidArgument, "m.txt:2: got \"\"");
}

TEST_F(DamagedVocabulary, MessagesShowLittleOfALongToken) {
  const std::string name(10'000'000, 'q');
  const auto check = [](const absl::Status& status) {
    EXPECT_FALSE(status.ok());
    EXPECT_LT(status.message().size(), 350u);
  };
  check(Open(Vocab(absl::StrCat(end_, ", \"", name, "\": 9")), merges_));
  check(Open(Vocab(absl::StrCat(end_, ", \"", name, "\": 257")), merges_));
  check(Open(Vocab(absl::StrCat(end_, ", \"", name, "\": -1")), merges_));
  check(Open(Vocab(absl::StrCat(end_, ", \"", name, "\": 257, \"", name, "\": 257")), merges_));
  check(Open(Vocab(absl::StrCat(end_, ", \"", name)), merges_));
  check(Open(Vocab(more_), name));
  check(Open(Vocab(more_), "a b\na " + name));
}

TEST_F(DamagedVocabulary, SpecialFilesAreRefused) {
  const std::string vocab = folder_.Write("v.json", Vocab(more_));
  EXPECT_STATUS(OpenGpt2Tokenizer("/dev/urandom", "m.txt"), kFailedPrecondition,
                "/dev/urandom: is a device; give the path of a file");
  EXPECT_STATUS(OpenGpt2Tokenizer(vocab, "/dev/zero"), kFailedPrecondition, "is a device");
  EXPECT_STATUS(OpenGpt2Tokenizer(vocab, folder_.Path("")), kFailedPrecondition, ": is a folder");
}

TEST_F(DamagedVocabulary, ErrorsInTheVocabularyAreNamed) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "v.json: not valid JSON at byte 1; expected {\"token\": id, ...}; if"},
      {Vocab(more_).substr(0, 1000), "v.json: not valid JSON at byte 1001"},
      {"[1]", "v.json: an array; expected {\"token\": id"},
      {"7", "v.json: a number; expected"},
      {Vocab(end_ + R"(, "ab": "x")"), "v.json: a string for \"ab\"; expected"},
      {Vocab(end_ + R"(, "ab": -1)"), "v.json: a negative number for \"ab\""},
      {Vocab(end_ + R"(, "ab": 1.5)"), "v.json: a number that is not an integer for \"ab\""},
      {Vocab(end_ + R"(, "ab": NaN)"), "v.json: a number that is not an integer for \"ab\""},
      {Vocab(end_ + R"(, "ab": {})"), "v.json: an object for \"ab\""},
      {Vocab(end_ + R"(, "ab": 99999999999)"), "v.json: a number for \"ab\""},
      {Vocab(end_ + R"(, "ab": 257, "ab": 258)"), "v.json: \"ab\" occurs twice"},
      {Vocab(end_ + R"(, "ab": 258)"), "v.json: id 258 of \"ab\"; expected 0 to 257, each once"},
      {Vocab(end_ + R"(, "a b": 257)"), "v.json: token \"a b\"; expected only characters"},
      {Vocab(end_ + R"(, "": 257)"), "v.json: token \"\"; expected only characters"},
      {Vocab(R"("ab": 256)"), "v.json: no token \"<|endoftext|>\""},
      {absl::StrCat("{", end_.substr(0, 17), "0}"), "v.json: no token \""}};
  for (const auto& [vocab, message] : cases) {
    EXPECT_STATUS(Open(vocab, merges_), kInvalidArgument, message);
  }
  EXPECT_STATUS(OpenGpt2Tokenizer("/nowhere/v.json", "m.txt"), kNotFound, "/nowhere/v.json");
}

TEST_F(DamagedVocabulary, ErrorsInTheMergesNameTheLine) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"#version: 0.2\na b\nab\n", "m.txt:3: got \"ab\"; expected two tokens with a space between"},
      {"a b\n\nab c\n", "m.txt:2: got \"\"; expected two"},
      {"a b c\nab c\n", "m.txt:1: got \"a b c\""},
      {"a  b\nab c\n", "m.txt:1: got \"a  b\""},
      {"a b\nab c\na c\n", "m.txt:3: \"ac\" is not a token of the vocabulary"},
      {"a b\nab \xff\n", "m.txt:2: \"\\xff\" is not a token"},
      {"a b\rab c\r", "m.txt:1: got \"a b\\rab c\""},
      {"a b\nab c\na b\n", "m.txt:3: \"a b\" occurs twice"},
      {"a b\n",
       absl::StrCat("m.txt: no line makes token 258 of ", folder_.Path("v.json"), ", \"abc\"")},
      {"", "m.txt: no line makes token 257"}};
  for (const auto& [merges, message] : cases) {
    EXPECT_STATUS(Open(Vocab(more_), merges), kInvalidArgument, message);
  }
  EXPECT_STATUS(OpenGpt2Tokenizer(folder_.Path("v.json"), "/nowhere/m.txt"), kNotFound,
                "/nowhere/m.txt");
}

}  // namespace
}  // namespace unipool
