#include "data/prepare/input_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "data/indexed_dataset.h"
#include "tests/support/packed.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using testing::TempFolder;

class ListInputsTest : public ::testing::Test {
 protected:
  PrepareOptions Options(std::vector<std::string> inputs) const {
    PrepareOptions options;
    for (const std::string& input : inputs) options.inputs.push_back(folder_.Path(input));
    options.output = folder_.Path("out/data");
    return options;
  }

  // The paths below the temporary folder. `skipped` gets those that are skipped.
  std::vector<std::string> List(const PrepareOptions& options) {
    const auto list = ListInputs(options);
    EXPECT_OK(list);
    std::vector<std::string> paths;
    skipped_.clear();
    if (!list.ok()) return paths;
    for (const InputFile& file : list->files) paths.push_back(Short(file.path));
    for (const std::string& skipped : list->skipped) skipped_.push_back(Short(skipped));
    return paths;
  }
  std::vector<std::string> List(std::vector<std::string> inputs) {
    return List(Options(std::move(inputs)));
  }

  std::string Short(const std::string& path) const { return path.substr(folder_.Path("").size()); }

  void Link(const std::string& target, const std::string& name) const {
    std::filesystem::create_directories(std::filesystem::path(folder_.Path(name)).parent_path());
    std::filesystem::create_symlink(target, folder_.Path(name));
  }

  void WriteTokens(const std::string& prefix) const {
    auto writer = IndexedDatasetWriter::Create(folder_.Path(prefix), 257).value();
    ASSERT_OK(writer->AddDocument({1, 2}));
    ASSERT_OK(writer->Finish());
  }

  TempFolder folder_;
  std::vector<std::string> skipped_;
};

TEST_F(ListInputsTest, LinkedFoldersAndFilesAreFollowed) {
  folder_.Write("in/b.jsonl", "");
  folder_.Write("disk2/deep/c.jsonl", "");
  folder_.Write("disk3/d.jsonl", "");
  Link("../disk2", "in/part2");
  Link("../../disk3", "disk2/deep/part3");
  Link("../disk3/d.jsonl", "in/a.jsonl");
  EXPECT_THAT(List({"in"}), ElementsAre("in/a.jsonl", "in/b.jsonl", "in/part2/deep/c.jsonl"));
  EXPECT_THAT(skipped_, ElementsAre("in/part2/deep/part3/d.jsonl (a link to a file that is read)"));
  Link("in", "all");
  EXPECT_THAT(List({"all"}), ElementsAre("all/a.jsonl", "all/b.jsonl", "all/part2/deep/c.jsonl"));
}

TEST_F(ListInputsTest, LoopsOfLinksEnd) {
  folder_.Write("in/a/x.txt", "");
  folder_.Write("in/b/y.txt", "");
  Link("..", "in/a/up");
  Link("../b", "in/a/other");
  Link("../a", "in/b/other");
  Link(".", "in/self");
  Link("../..", "in/b/above");  // contains the input folder itself
  EXPECT_THAT(List({"in"}), ElementsAre("in/a/x.txt", "in/b/y.txt"));
  EXPECT_EQ(skipped_.size(), 5u);
  EXPECT_THAT(skipped_, ::testing::Contains("in/self (a link to a folder that is read)"));
}

// Where the files are does not depend on links to them.
TEST_F(ListInputsTest, AFileThatIsReachedTwiceIsReadOnceWithoutItsLink) {
  folder_.Write("in/m.txt", "");
  folder_.Write("in/z/x.txt", "");
  Link("z", "in/a");
  Link("m.txt", "in/b.txt");
  std::filesystem::create_hard_link(folder_.Path("in/m.txt"), folder_.Path("in/n.txt"));
  EXPECT_THAT(List({"in"}), ElementsAre("in/m.txt", "in/n.txt", "in/z/x.txt"));
  EXPECT_THAT(skipped_, ElementsAre("in/a (a link to a folder that is read)",
                                    "in/b.txt (a link to a file that is read)"));
  EXPECT_THAT(List({"in/m.txt", "in/m.txt"}), ElementsAre("in/m.txt", "in/m.txt"));
}

TEST_F(ListInputsTest, BrokenLinksAndSpecialFilesAreErrors) {
  folder_.Write("in/a.txt", "");
  Link("nowhere", "in/b.txt");
  EXPECT_STATUS(ListInputs(Options({"in"})), kNotFound, "in/b.txt: cannot read");
  std::filesystem::remove(folder_.Path("in/b.txt"));
  Link("c.txt", "in/c.txt");
  EXPECT_FALSE(ListInputs(Options({"in"})).ok());
  std::filesystem::remove(folder_.Path("in/c.txt"));
  ASSERT_EQ(mkfifo(folder_.Path("in/pipe").c_str(), 0600), 0);
  EXPECT_STATUS(ListInputs(Options({"in"})), kInvalidArgument, "in/pipe: not a regular file");
  PrepareOptions options = Options({});
  options.inputs = {"/dev/zero"};
  EXPECT_STATUS(ListInputs(options), kInvalidArgument, "/dev/zero: a device; expected a file");
}

TEST_F(ListInputsTest, FilesAboutTheDataAreNamedAndReadIfGiven) {
  for (const char* name : {"README.md", "SHA256SUMS", ".git/a.txt", "_SUCCESS", "a.txt"}) {
    folder_.Write(std::string("in/") + name, "");
  }
  EXPECT_THAT(List({"in"}), ElementsAre("in/a.txt"));
  EXPECT_THAT(skipped_, ::testing::UnorderedElementsAre(
                            "in/README.md (a readme)", "in/SHA256SUMS (checksums)",
                            "in/.git (hidden)", "in/_SUCCESS (a marker file)"));
  EXPECT_THAT(List({"in/README.md", "in/.git/a.txt"}),
              ElementsAre("in/README.md", "in/.git/a.txt"));
  EXPECT_THAT(skipped_, IsEmpty());
  std::filesystem::remove(folder_.Path("in/a.txt"));
  EXPECT_STATUS(ListInputs(Options({"in"})), kNotFound, "no files to read; 4 skipped, such as ");
}

TEST_F(ListInputsTest, TokenFilesAreNeverInput) {
  folder_.Write("in/a.txt", "text");
  folder_.Write("in/b.bin", "text without an index");
  folder_.Write("in/c.idx", "text with another index");
  folder_.Write("in/c.bin", "text");
  WriteTokens("in/old");
  folder_.Write("in/killed.bin", "ids");
  folder_.Write("in/killed.idx.partial", folder_.ReadAll("in/old.idx"));
  folder_.Write("in/new.bin.partial", "ids");
  folder_.Write("in/old.train-00.order", std::string("UNIORDR\0", 8));
  folder_.Write("in/old.train-00.order.lock", "");
  EXPECT_THAT(List({"in"}), ElementsAre("in/a.txt", "in/b.bin", "in/c.bin", "in/c.idx"));
  EXPECT_EQ(skipped_.size(), 7u);
  EXPECT_THAT(skipped_, ::testing::Contains("in/old.bin (token ids)"));
  EXPECT_STATUS(ListInputs(Options({"in/old.bin"})), kInvalidArgument,
                "in/old.bin: token ids, not text; give the text instead");
  EXPECT_STATUS(ListInputs(Options({"in/old.idx"})), kInvalidArgument, "the index of token files");
}

TEST_F(ListInputsTest, WhatThisCallReplacesIsNeverInput) {
  folder_.Write("in/a.txt", "text");
  folder_.Write("in/data.bin", "text");
  Link("in", "link");
  PrepareOptions options = Options({"in"});
  options.output = folder_.Path("link/../in/data");
  EXPECT_THAT(List(options), ElementsAre("in/a.txt"));
  EXPECT_THAT(skipped_, ElementsAre("in/data.bin (the output of this command)"));
  options = Options({"in/data.bin"});
  options.output = folder_.Path("in/data");
  EXPECT_STATUS(ListInputs(options), kInvalidArgument,
                "in/data.bin: the output of this command, not text");
}

TEST_F(ListInputsTest, TextThatBeginsLikeJsonIsRefused) {
  for (const std::string text :
       {"{\"a\": 1}", " \n\t{ \"a\": 1}", "\xef\xbb\xbf{\n\"a\"", "[ {\"a\""}) {
    for (const char* name : {"a.txt", "a", "a.jsonl.bak", "a.py"}) {
      folder_.Write(name, text);
      PrepareOptions options = Options({name});
      EXPECT_STATUS(ListInputs(options), kInvalidArgument, std::string(name) + ": begins with ");
      options.format = TextFormat::kPlain;
      EXPECT_FALSE(ListInputs(options)->files[0].is_json_lines);
      options.format = TextFormat::kJsonLines;
      EXPECT_TRUE(ListInputs(options)->files[0].is_json_lines);
    }
  }
  const std::string spaces(100'000, ' ');
  folder_.Write("a.txt.gz", testing::Gzip(absl::StrCat(spaces, "{\"a\"")));
  EXPECT_STATUS(ListInputs(Options({"a.txt.gz"})), kInvalidArgument,
                "as JSON lines do; pass --format jsonl");
  for (const char* text : {"{a", "{", "[1", "[[", "\"a\"", "{}", ""}) {
    folder_.Write("a.txt", text);
    EXPECT_THAT(List({"a.txt"}), ElementsAre("a.txt"));
  }
}

TEST_F(ListInputsTest, JuliaAndJsonLinesShareAnExtension) {
  folder_.Write("a.jl", "{\"text\": \"a\"}\n");
  folder_.Write("b.jl", "println(\"b\")\n");
  const auto list = ListInputs(Options({"a.jl", "b.jl"})).value();
  EXPECT_TRUE(list.files[0].is_json_lines);
  EXPECT_FALSE(list.files[1].is_json_lines);
}

TEST_F(ListInputsTest, FilesThatAreNoTextAreNamedOrSkipped) {
  folder_.Write("in/a.txt", "text");
  folder_.Write("in/b", "PK\x03\x04");
  EXPECT_STATUS(ListInputs(Options({"in"})), kInvalidArgument,
                "in/b: the content is a zip archive, not text; unpack it");
  PrepareOptions options = Options({"in"});
  options.skip_bad = true;
  const auto list = ListInputs(options).value();
  EXPECT_EQ(list.files[0].problem, "");
  EXPECT_THAT(list.files[1].problem, ::testing::HasSubstr("in/b: the content is a zip archive"));
}

}  // namespace
}  // namespace unipool
