#include "launch/data_prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/indexed_dataset.h"
#include "data/tokenizer.h"
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
  bool SomethingIsLeft() const {
    return std::filesystem::exists(folder_.Path("out")) &&
           !std::filesystem::is_empty(folder_.Path("out"));
  }

  // The texts of the documents; a text without its end of document gets a mark.
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

TEST_F(PrepareDataTest, FoldersAreReadInOrderOfNameByExtension) {
  folder_.Write("in/b.txt", "plain\n");
  folder_.Write("in/a/z.json", "{\"text\":\"json\"}\n");
  folder_.Write("in/c.py", "{\"text\":\"source\"}\n");
  ASSERT_OK(PrepareData(Options({folder_.Path("in")})));
  EXPECT_THAT(Documents(), ElementsAre("json", "plain\n", "{\"text\":\"source\"}\n"));
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

TEST_F(PrepareDataTest, AMalformedLineIsNamedAndLeavesNothing) {
  const auto good = folder_.Write("a.jsonl", "{\"text\":\"one\"}\n");
  const auto bad = folder_.Write("b.jsonl", "{\"text\":\"two\"}\n{\"text\": 3}\n");
  EXPECT_STATUS(PrepareData(Options({good, bad})), kInvalidArgument,
                "b.jsonl line 2: field \"text\" is a number; expected an object");
  EXPECT_FALSE(SomethingIsLeft());
}

TEST_F(PrepareDataTest, SkippedLinesAreCounted) {
  auto options = Options({folder_.Write("a.jsonl", "{\n{\"text\":\"one\"}\n\n[]\n")});
  options.skip_bad = true;
  PrepareReport report;
  ASSERT_OK(PrepareData(options, &report));
  EXPECT_THAT(Documents(), ElementsAre("one"));
  EXPECT_EQ(report.bad_lines, 3);
  EXPECT_THAT(report.first_bad_line, ::testing::HasSubstr("a.jsonl line 1: "));
}

TEST_F(PrepareDataTest, AnOutputThatIsThereIsKeptUnlessOverwritten) {
  auto options = Options({folder_.Write("a.txt", "first")});
  ASSERT_OK(PrepareData(options));
  folder_.Write("a.txt", "second");
  EXPECT_STATUS(PrepareData(options), kAlreadyExists, "data.bin: already there");
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
  EXPECT_STATUS(PrepareData(Options({folder_.Path("empty")})), kNotFound, "without files");
  std::filesystem::create_directories(folder_.Path("in"));
  std::filesystem::create_symlink("nowhere", folder_.Path("in/link.txt"));
  EXPECT_STATUS(PrepareData(Options({folder_.Path("in")})), kNotFound, "link.txt: cannot read");
  EXPECT_STATUS(PrepareData(Options({folder_.Write("a.jsonl.gz", "x")})), kInvalidArgument,
                "a.jsonl.gz: compressed");
  EXPECT_STATUS(PrepareData(Options({})), kInvalidArgument, "no input");
  EXPECT_FALSE(SomethingIsLeft());
}

TEST_F(PrepareDataTest, AnOutputThatCannotBeWrittenIsNamed) {
  auto options = Options({folder_.Write("a.txt", "x")});
  options.output = folder_.Path("a.txt/data");
  EXPECT_STATUS(PrepareData(options), kFailedPrecondition, "a.txt");
}

}  // namespace
}  // namespace unipool
