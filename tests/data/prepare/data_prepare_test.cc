#include "data/prepare/data_prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/indexed_dataset.h"
#include "data/tokenizer.h"
#include "runtime/utf8.h"
#include "tests/support/file_size_limit.h"
#include "tests/support/packed.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using testing::TempFolder;

class PrepareDataTest : public ::testing::Test {
 protected:
  PrepareOptions Options(std::vector<std::string> inputs) const {
    PrepareOptions options;
    options.inputs = std::move(inputs);
    options.output = Out();
    return options;
  }

  std::string Out() const { return folder_.Path("out/data"); }
  bool HasOutput() const {
    return std::filesystem::exists(folder_.Path("out")) &&
           !std::filesystem::is_empty(folder_.Path("out"));
  }

  // The texts of the documents; "NOT ENDED" marks one without an end-of-document id.
  std::vector<std::string> Documents() const {
    const auto dataset = *IndexedDataset::Open(Out());
    const auto tokenizer = CreateByteTokenizer();
    std::vector<std::string> documents;
    for (int64_t d = 0; d < dataset->num_documents(); ++d) {
      const int64_t begin = dataset->SequenceStart(dataset->DocumentStart(d));
      const int64_t end = dataset->SequenceStart(dataset->DocumentStart(d + 1));
      std::vector<int32_t> ids(end - begin);
      dataset->Read(begin, absl::MakeSpan(ids));
      const bool ended = ids.empty() || ids.back() == tokenizer->end_of_document();
      documents.push_back(tokenizer->Decode(ids) + (ended ? "" : " NOT ENDED"));
    }
    return documents;
  }

  TempFolder folder_;
};

TEST_F(PrepareDataTest, EveryLineIsADocument) {
  const auto input =
      folder_.Write("a.jsonl", "{\"text\":\"one\"}\n{\"text\":\"\"}\n{\"text\":\"2\"}");
  PrepareReport report;
  ASSERT_OK(PrepareData(Options({input}), &report));
  EXPECT_THAT(Documents(), ElementsAre("one", "", "2"));
  EXPECT_EQ(report.documents, 3);
  EXPECT_EQ(report.tokens, 3 + 1 + 0 + 1 + 1);
  EXPECT_EQ(report.files, 1);
}

TEST_F(PrepareDataTest, FoldersAreReadInLexicalOrder) {
  folder_.Write("in/b.txt", "plain\n");
  folder_.Write("in/a/z.json", "{\"text\":\"json\"}\n");
  folder_.Write("in/c.py", "print('source')\n");
  ASSERT_OK(PrepareData(Options({folder_.Path("in")})));
  EXPECT_THAT(Documents(), ElementsAre("json", "plain\n", "print('source')\n"));
}

TEST_F(PrepareDataTest, TheFormatAndTheFieldCanBeForced) {
  auto options = Options({folder_.Write("a.txt", "{\"body\":\"b\"}\n")});
  options.format = TextFormat::kJsonLines;
  options.text_field = "body";
  ASSERT_OK(PrepareData(options));
  EXPECT_THAT(Documents(), ElementsAre("b"));
  options = Options({folder_.Write("a.jsonl", "{\n")});
  options.format = TextFormat::kPlain;
  options.overwrite = true;
  ASSERT_OK(PrepareData(options));
  EXPECT_THAT(Documents(), ElementsAre("{\n"));
}

TEST_F(PrepareDataTest, AMalformedLineIsNamedAndLeavesNoOutput) {
  const auto good = folder_.Write("a.jsonl", "{\"text\":\"one\"}\n");
  const auto bad = folder_.Write("b.jsonl", "{\"text\":\"two\"}\n{\"text\": 3}\n");
  EXPECT_STATUS(PrepareData(Options({good, bad})), kInvalidArgument,
                "b.jsonl line 2: field \"text\" is a number; expected an object");
  EXPECT_FALSE(HasOutput());
}

TEST_F(PrepareDataTest, SkippedLinesAreCounted) {
  auto options = Options({folder_.Write("a.jsonl", "{\n{\"text\":\"one\"}\n\n[]\n")});
  options.skip_bad = true;
  PrepareReport report;
  ASSERT_OK(PrepareData(options, &report));
  EXPECT_THAT(Documents(), ElementsAre("one"));
  EXPECT_EQ(report.bad_lines, 2);
  EXPECT_EQ(report.blank_lines, 1);
  EXPECT_THAT(report.first_bad_line, ::testing::HasSubstr("a.jsonl line 1: "));
}

TEST_F(PrepareDataTest, LinesThatPythonAndWindowsWriteAreRead) {
  const std::string lines =
      "\xef\xbb\xbf{\"text\": \"one\", \"score\": NaN}\r\n\r\n"
      "{\"score\": -Infinity, \"text\": \"two\"}\r\n \t\n{\"n\": 1e999, \"text\": \"3\"}\n\n\n";
  PrepareReport report;
  ASSERT_OK(PrepareData(Options({folder_.Write("a.jsonl", lines)}), &report));
  EXPECT_THAT(Documents(), ElementsAre("one", "two", "3"));
  EXPECT_EQ(report.blank_lines, 4);
  EXPECT_EQ(report.special_lines, 3);
  EXPECT_EQ(report.bad_lines, 0);
}

TEST_F(PrepareDataTest, BlankLinesCountInTheNumbersOfLines) {
  EXPECT_STATUS(PrepareData(Options({folder_.Write("a.jsonl", "\n{\"text\": \"one\"}\n\n[]\n")})),
                kInvalidArgument, "a.jsonl line 4: an array instead of an object");
}

TEST_F(PrepareDataTest, AnExistingOutputIsKeptUnlessOverwritten) {
  auto options = Options({folder_.Write("a.txt", "first")});
  ASSERT_OK(PrepareData(options));
  folder_.Write("a.txt", "second");
  EXPECT_STATUS(PrepareData(options), kAlreadyExists, "data.idx: already exists");
  EXPECT_THAT(Documents(), ElementsAre("first"));
  options.overwrite = true;
  ASSERT_OK(PrepareData(options));
  EXPECT_THAT(Documents(), ElementsAre("second"));
}

TEST_F(PrepareDataTest, AFailedOverwriteKeepsTheOldOutput) {
  auto options = Options({folder_.Write("a.txt", "first")});
  ASSERT_OK(PrepareData(options));
  options.inputs = {folder_.Write("b.jsonl", "{\"text\":\"second\"}\nbad\n")};
  options.overwrite = true;
  EXPECT_STATUS(PrepareData(options), kInvalidArgument, "b.jsonl line 2");
  EXPECT_THAT(Documents(), ElementsAre("first"));
}

TEST_F(PrepareDataTest, InputsThatCannotBeReadAreNamed) {
  const auto good = folder_.Write("a.txt", "x");
  EXPECT_STATUS(PrepareData(Options({good, folder_.Path("no.txt")})), kNotFound, "no.txt: ");
  std::filesystem::create_directories(folder_.Path("empty"));
  EXPECT_STATUS(PrepareData(Options({folder_.Path("empty")})), kNotFound, "contains no files");
  std::filesystem::create_directories(folder_.Path("in"));
  std::filesystem::create_symlink("nowhere", folder_.Path("in/link.txt"));
  EXPECT_STATUS(PrepareData(Options({folder_.Path("in")})), kNotFound, "link.txt: cannot read");
  EXPECT_STATUS(PrepareData(Options({folder_.Write("a.jsonl.xz", "x")})), kInvalidArgument,
                "a.jsonl.xz: .xz files cannot be read; decompress it or convert it to .gz or .zst");
  EXPECT_STATUS(PrepareData(Options({})), kInvalidArgument, "no input");
  EXPECT_FALSE(HasOutput());
}

TEST_F(PrepareDataTest, HiddenFilesInAFolderAreSkipped) {
  folder_.Write("in/.git/index", "\xff");
  folder_.Write("in/.git/objects/a.txt", "hidden");
  folder_.Write("in/.hidden.jsonl", "hidden");
  EXPECT_STATUS(PrepareData(Options({folder_.Path("in")})), kNotFound, "contains no files");
  folder_.Write("in/b/a.txt", "seen");
  ASSERT_OK(PrepareData(Options({folder_.Path("in")})));
  EXPECT_THAT(Documents(), ElementsAre("seen"));
  auto options = Options({folder_.Path("in/.git/objects")});
  options.overwrite = true;
  ASSERT_OK(PrepareData(options));
  EXPECT_THAT(Documents(), ElementsAre("hidden"));
}

TEST_F(PrepareDataTest, APlainFileThatIsNotTextIsNamedWithTheByte) {
  folder_.Write("in/a.txt", "caf\xc3\xa9");
  folder_.Write("in/b.bin", "caf\xe9 a long way on");
  folder_.Write("in/c.txt.gz", testing::Gzip("\xff"));
  auto options = Options({folder_.Path("in")});
  EXPECT_STATUS(PrepareData(options), kInvalidArgument,
                "in/b.bin: byte 3 of the text is not UTF-8; convert the file to UTF-8");
  EXPECT_FALSE(HasOutput());
  options.skip_bad = true;
  PrepareReport report;
  ASSERT_OK(PrepareData(options, &report));
  EXPECT_THAT(Documents(), ElementsAre("caf\xc3\xa9"));
  EXPECT_EQ(report.bad_lines, 2);
  EXPECT_THAT(report.first_bad_line, ::testing::HasSubstr("in/b.bin: byte 3"));
}

TEST_F(PrepareDataTest, AFolderAsOutputIsRefused) {
  auto options = Options({folder_.Write("a.txt", "x")});
  for (const char* output : {"out/", "out/.", "out/.."}) {
    options.output = folder_.Path(output);
    EXPECT_STATUS(PrepareData(options), kInvalidArgument, ": names a folder; name the PREFIX");
  }
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("out")));
}

TEST_F(PrepareDataTest, AnOutputThatCannotBeWrittenIsNamed) {
  auto options = Options({folder_.Write("a.txt", "x")});
  options.output = folder_.Path("a.txt/data");
  EXPECT_STATUS(PrepareData(options), kFailedPrecondition, "a.txt");
}

// Several blocks of JSON lines of different lengths, some with empty texts.
std::string ManyLines() {
  std::mt19937 random(6);
  std::string lines;
  while (lines.size() < 2'300'000) {
    std::string text;
    for (size_t words = random() % 50; words > 0; --words) {
      absl::StrAppend(&text, random() % 9 == 0 ? "tokens " : "the ", random() % 100, " ");
    }
    absl::StrAppend(&lines, "{\"text\": \"", text, "\"}\n");
  }
  return lines;
}

class PrepareManyTest : public PrepareDataTest {
 protected:
  PrepareOptions Gpt2Options(std::vector<std::string> inputs) const {
    PrepareOptions options = Options(std::move(inputs));
    options.vocab_file = UNIPOOL_TEST_BPE "/vocab.json";
    options.merges_file = UNIPOOL_TEST_BPE "/merges.txt";
    return options;
  }

  std::string Bytes() const {
    return folder_.ReadAll("out/data.bin") + folder_.ReadAll("out/data.idx");
  }
};

TEST_F(PrepareManyTest, WorkersAndCompressionDoNotChangeTheOutput) {
  const std::string lines = ManyLines();
  const auto plain = folder_.Write("a.jsonl", lines);
  auto options = Gpt2Options({plain});
  PrepareReport report;
  ASSERT_OK(PrepareData(options, &report));
  EXPECT_EQ(report.documents, std::count(lines.begin(), lines.end(), '\n'));
  EXPECT_EQ(report.input_bytes, static_cast<int64_t>(lines.size()));
  const std::string bytes = Bytes();
  options.overwrite = true;
  for (const auto& [path, workers] : {std::pair{plain, 2},
                                      {plain, 7},
                                      {folder_.Write("a.jsonl.gz", testing::Gzip(lines)), 3},
                                      {folder_.Write("a.jsonl.zst", testing::Zstd(lines)), 1}}) {
    options.inputs = {path};
    options.workers = workers;
    ASSERT_OK(PrepareData(options));
    EXPECT_TRUE(Bytes() == bytes) << path << " " << workers;
  }
}

TEST_F(PrepareManyTest, DocumentsEndWithTheVocabularysEndOfText) {
  const auto tokenizer =
      OpenGpt2Tokenizer(UNIPOOL_TEST_BPE "/vocab.json", UNIPOOL_TEST_BPE "/merges.txt").value();
  ASSERT_OK(PrepareData(
      Gpt2Options({folder_.Write("a.jsonl", "{\"text\":\"the tokens\"}\n{\"text\":\"\"}\n")})));
  const auto dataset = *IndexedDataset::Open(Out());
  EXPECT_EQ(dataset->num_documents(), 2);
  ASSERT_EQ(dataset->num_sequences(), 1);
  std::vector<int32_t> expected, ids(dataset->num_tokens());
  tokenizer->Encode("the tokens", &expected);
  expected.push_back(tokenizer->end_of_document());
  dataset->Read(0, absl::MakeSpan(ids));
  EXPECT_EQ(ids, expected);
}

// Words, numbers, contractions, spaces and characters of 1 to 4 bytes, in several parts.
std::string LongText() {
  constexpr const char* kParts[] = {" the", "tokens",     "'s",     "'",         "  ",
                                    "\n",   "12",         "\u00e9", "\u3000",    "...",
                                    "\t",   "\U0001d7d8", "\u4e2d", "\U0001f600"};
  std::mt19937 random(8);
  std::string text;
  while (text.size() < 3'300'000) text += kParts[random() % std::size(kParts)];
  return text;
}

TEST_F(PrepareManyTest, ALongPlainTextGivesTheIdsOfTheWhole) {
  const std::string text = LongText();
  const auto path = folder_.Write("a.txt", text);
  std::vector<int32_t> expected;
  for (const bool is_gpt2 : {false, true}) {
    auto options = is_gpt2 ? Gpt2Options({path}) : Options({path});
    options.overwrite = true;
    options.workers = 3;
    ASSERT_OK(PrepareData(options));
    const auto tokenizer = is_gpt2
                               ? OpenGpt2Tokenizer(options.vocab_file, options.merges_file).value()
                               : CreateByteTokenizer();
    expected.clear();
    tokenizer->Encode(text, &expected);
    expected.push_back(tokenizer->end_of_document());
    const auto dataset = *IndexedDataset::Open(Out());
    std::vector<int32_t> ids(dataset->num_tokens());
    dataset->Read(0, absl::MakeSpan(ids));
    EXPECT_TRUE(ids == expected);
    EXPECT_EQ(dataset->num_documents(), 1);
    EXPECT_EQ(dataset->num_sequences(), 1);
  }
}

TEST_F(PrepareManyTest, ALongPlainTextThatIsNotUtf8IsLeftOutAsAWhole) {
  const std::string text = LongText();
  const auto good = folder_.Write("a.txt", "good"), last = folder_.Write("c.txt", "last");
  for (const size_t at : {size_t{0}, size_t{1} << 20, text.size() - 1}) {
    const size_t byte = ValidUtf8Bytes(absl::string_view(text).substr(0, at));
    const auto bad = folder_.Write("b.txt", text.substr(0, byte) + "\xff" + text.substr(byte));
    for (const int workers : {1, 3}) {
      auto options = Options({good, bad, last});
      options.overwrite = true;
      options.workers = workers;
      EXPECT_STATUS(PrepareData(options), kInvalidArgument,
                    absl::StrCat("b.txt: byte ", byte, " of the text is not UTF-8"));
      options.skip_bad = true;
      PrepareReport report;
      ASSERT_OK(PrepareData(options, &report));
      EXPECT_THAT(Documents(), ElementsAre("good", "last"));
      EXPECT_EQ(report.bad_lines, 1);
    }
  }
}

// Of three errors in different blocks and files, the first in input order is reported.
TEST_F(PrepareManyTest, TheFirstErrorIsReportedForAnyNumberOfWorkers) {
  const std::string lines = ManyLines();
  const auto num_lines = std::count(lines.begin(), lines.end(), '\n');
  const auto bad = folder_.Write("a.jsonl", lines + "bad\n" + lines + "worse\n");
  const auto cut = folder_.Write("b.jsonl.gz", testing::Gzip(lines).substr(0, 1000));
  for (const int workers : {1, 3}) {
    auto options = Gpt2Options({bad, cut});
    options.workers = workers;
    EXPECT_STATUS(PrepareData(options), kInvalidArgument,
                  absl::StrCat("a.jsonl line ", num_lines + 1, ": not valid JSON"));
    EXPECT_FALSE(HasOutput());
    options.skip_bad = true;
    EXPECT_STATUS(PrepareData(options), kDataLoss, "b.jsonl.gz: truncated at byte 1000");
    EXPECT_FALSE(HasOutput());
  }
}

TEST_F(PrepareManyTest, SkippedLinesAreCountedOverBlocksAndFiles) {
  const std::string lines = ManyLines();
  const auto num_lines = std::count(lines.begin(), lines.end(), '\n');
  auto options = Options({folder_.Write("a.jsonl", lines + "bad\n" + lines + "bad\nbad"),
                          folder_.Write("b.jsonl", "bad\n" + lines)});
  options.workers = 3;
  options.skip_bad = true;
  PrepareReport report;
  ASSERT_OK(PrepareData(options, &report));
  EXPECT_EQ(report.bad_lines, 4);
  EXPECT_EQ(report.documents, 3 * num_lines);
  EXPECT_THAT(report.first_bad_line,
              ::testing::HasSubstr(absl::StrCat("a.jsonl line ", num_lines + 1, ": ")));
}

TEST_F(PrepareManyTest, AFullDiskIsReportedAndLeavesNoOutput) {
  const auto input = folder_.Write("a.jsonl", ManyLines());
  for (const int64_t limit : {0, 1'000'000}) {
    const testing::FileSizeLimit full(limit);
    const absl::Status status = PrepareData(Options({input}));
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(std::string(status.message()),
                ::testing::HasSubstr("data.bin.partial: cannot write"));
    EXPECT_FALSE(HasOutput());
  }
}

TEST_F(PrepareDataTest, FilesOfAKillBetweenTheRenamesAreReplaced) {
  auto options = Options({folder_.Write("a.txt", "new")});
  folder_.Write("out/data.bin", "ids");
  EXPECT_STATUS(PrepareData(options), kAlreadyExists, "data.bin: already exists");
  folder_.Write("out/data.idx.partial", "an index");
  ASSERT_OK(PrepareData(options));
  EXPECT_THAT(Documents(), ElementsAre("new"));
  EXPECT_FALSE(std::filesystem::exists(folder_.Path("out/data.idx.partial")));
}

TEST_F(PrepareDataTest, EachCompressedPlainFileIsADocument) {
  folder_.Write("in/a.txt.gz", testing::Gzip("one\ntwo"));
  folder_.Write("in/b.zst", testing::Zstd(""));
  folder_.Write("in/c.json.zst", testing::Zstd("{\"text\":\"three\"}"));
  ASSERT_OK(PrepareData(Options({folder_.Path("in")})));
  EXPECT_THAT(Documents(), ElementsAre("one\ntwo", "", "three"));
}

TEST_F(PrepareDataTest, InvalidWorkersAndVocabulariesAreRefused) {
  auto options = Options({folder_.Write("a.txt", "x")});
  options.workers = 0;
  EXPECT_STATUS(PrepareData(options), kInvalidArgument, "0 workers; use 1 to 1024");
  options.workers = 1;
  options.vocab_file = "/nowhere/vocab.json";
  EXPECT_STATUS(PrepareData(options), kNotFound, "/nowhere/vocab.json");
  EXPECT_FALSE(HasOutput());
}

}  // namespace
}  // namespace unipool
