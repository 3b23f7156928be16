#include "launch/commands/commands.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "runtime/json.h"
#include "tests/support/temp_folder.h"

namespace unipool {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using testing::TempFolder;

struct Outcome {
  int exit_status;
  std::string out;
  std::string error;
};

Outcome Call(const std::vector<std::string>& args) {
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  std::vector<std::string> words = {"data"};
  words.insert(words.end(), args.begin(), args.end());
  const int exit_status = RunCommand({DataCommand()}, words);
  return {exit_status, ::testing::internal::GetCapturedStdout(),
          ::testing::internal::GetCapturedStderr()};
}

TEST(DataCommand, PreparesInspectsAndMeasures) {
  const TempFolder folder;
  std::string lines;
  for (int i = 0; i < 20; ++i) lines += "{\"text\": \"the cat, the \\\"mat\\\"\"}\n";
  const std::string input = folder.Write("a.jsonl", lines), prefix = folder.Path("x");
  const Outcome prepared = Call({"prepare", "--input", input, "--output=" + prefix});
  EXPECT_EQ(prepared.exit_status, 0) << prepared.error;
  EXPECT_THAT(prepared.out, HasSubstr("20 documents, 380 tokens from 1 files"));
  const Outcome inspected = Call({"inspect", prefix});
  EXPECT_EQ(inspected.exit_status, 0) << inspected.error;
  EXPECT_THAT(inspected.out, HasSubstr("documents  20 (20 sequences)"));
  EXPECT_THAT(inspected.out, HasSubstr("uint16, 760 bytes"));
  EXPECT_THAT(inspected.out, HasSubstr("median 19"));
  EXPECT_THAT(inspected.out, HasSubstr("\"the cat, the \\\"mat\\\"\""));
  const Outcome measured = Call({"bigram", prefix, "--split", "90,5,5"});
  EXPECT_EQ(measured.exit_status, 0) << measured.error;
  EXPECT_THAT(measured.out, HasSubstr("nats per token (342 training tokens, 18 predicted)"));
  EXPECT_THAT(Call({"bigram", prefix, "--split", "90,5,5", "--tokens", "7"}).out,
              HasSubstr("7 predicted"));
}

TEST(DataCommand, APatternStandsForTheFilesThatItMatches) {
  const TempFolder folder;
  for (const char* name : {"b.jsonl", "a.jsonl", "c.jsonl.1"}) {
    folder.Write(name, "{\"text\": \"" + std::string(1, name[0]) + "\"}\n");
  }
  const std::string prefix = folder.Path("x");
  const auto prepare = [&](const std::string& pattern) {
    return Call({"prepare", "--input", folder.Path(pattern), "--output=" + prefix, "--overwrite"});
  };
  EXPECT_THAT(prepare("*.jsonl").out, HasSubstr("2 documents, 4 tokens from 2 files"));
  EXPECT_EQ(folder.ReadAll("x.bin")[0], 'a');
  EXPECT_THAT(prepare("[bc].jsonl*").out, HasSubstr("2 documents, 4 tokens from 2 files"));
  const Outcome none = prepare("*.txt");
  EXPECT_EQ(none.exit_status, 2);
  EXPECT_THAT(none.error, HasSubstr("*.txt: the pattern matches no file"));
  folder.Write("odd*.jsonl", "{\"text\": \"odd\"}\n");
  EXPECT_THAT(prepare("odd*.jsonl").out, HasSubstr("1 documents, 4 tokens from 1 files"));
}

TEST(DataCommand, OutputWithoutTokensIsAWarning) {
  const TempFolder folder;
  const std::string input = folder.Write("a.jsonl", "{\"text\": \"\"}\n");
  const Outcome prepared = Call({"prepare", "--input", input, "--output", folder.Path("x")});
  EXPECT_EQ(prepared.exit_status, 0) << prepared.error;
  EXPECT_THAT(prepared.error, HasSubstr("holds no tokens"));
}

TEST(DataCommand, InspectsForMachinesAndReadsEveryToken) {
  const TempFolder folder;
  const std::string lines = "{\"text\": \"ab\"}\n{\"text\": \"abcd\"}\n";
  const std::string input = folder.Write("a.jsonl", lines), prefix = folder.Path("x");
  ASSERT_EQ(Call({"prepare", "--input", input, "--output", prefix}).exit_status, 0);
  const Outcome text = Call({"inspect", prefix, "--scan"});
  EXPECT_THAT(text.out, HasSubstr("2 to 3                 1 ####"));
  EXPECT_THAT(text.out, HasSubstr("id range   97 to 256; 2 sequences end with 256"));
  EXPECT_THAT(text.out, HasSubstr("0 documents without a sequence, 0 of several"));
  const Outcome outcome = Call({"inspect", prefix, "--json", "--scan"});
  EXPECT_EQ(outcome.exit_status, 0) << outcome.error;
  const Json json = Json::Parse(outcome.out).value();
  EXPECT_EQ(json.at("dtype"), "uint16");
  EXPECT_EQ(json.at("documents"), 2);
  EXPECT_EQ(json.at("tokens"), 8);
  const std::vector<Json>& histogram = json.at("histogram").elements();
  ASSERT_EQ(histogram.size(), 2u);
  EXPECT_EQ(histogram[1].at("least"), 4);
  EXPECT_EQ(json.at("beginning").at("text"), "ab");
  EXPECT_EQ(json.at("beginning").at("ids"), Json(std::vector<int>{97, 98, 256}));
  EXPECT_EQ(json.at("scan").at("most_id"), 256);
}

TEST(DataCommand, InspectShowsTheTextOfGpt2sIds) {
  const TempFolder folder;
  const std::string input = folder.Write("a.txt", "the pool of experts"), prefix = folder.Path("x");
  const std::string vocab = UNIPOOL_TEST_BPE "/vocab.json", merges = UNIPOOL_TEST_BPE "/merges.txt";
  ASSERT_EQ(Call({"prepare", "--input", input, "--output", prefix, "--tokenizer", "gpt2", "--vocab",
                  vocab, "--merges", merges})
                .exit_status,
            0);
  EXPECT_THAT(Call({"inspect", prefix, "--vocab", vocab, "--merges", merges}).out,
              HasSubstr("beginning  \"the pool of experts\""));
  const Outcome json = Call({"inspect", prefix, "--json", "--vocab", vocab, "--merges", merges});
  EXPECT_EQ(Json::Parse(json.out)->at("beginning").at("text"), "the pool of experts");
  EXPECT_THAT(Call({"inspect", prefix}).out, Not(HasSubstr("the pool of experts")));
  const Outcome refused = Call({"inspect", prefix, "--vocab", vocab});
  EXPECT_EQ(refused.exit_status, 2);
  EXPECT_THAT(refused.error, HasSubstr("--vocab and --merges belong together; give both or none"));
}

TEST(DataCommand, ReportsSkippedLines) {
  const TempFolder folder;
  const std::string input = folder.Write("a.txt", "{\"body\": \"x\"}\nbad\n");
  const Outcome outcome =
      Call({"prepare", "--input", input, "--output", folder.Path("x"), "--format", "jsonl",
            "--text-field", "body", "--skip-bad", "--overwrite"});
  EXPECT_EQ(outcome.exit_status, 0) << outcome.error;
  EXPECT_THAT(outcome.out,
              HasSubstr("1 malformed lines or files skipped; the first is " + input + " line 2"));
}

TEST(DataCommand, ReportsWhatWasPassedOver) {
  const TempFolder folder;
  folder.Write("in/a.jsonl", "{\"text\": \"x\"}\n\n{\"text\": \"y\", \"n\": NaN}\n\n");
  for (const char* name : {"README", "SHA256SUMS", ".git/a", "b\nc.md5"}) {
    folder.Write(std::string("in/") + name, "");
  }
  const std::string in = folder.Path("in");
  const Outcome outcome = Call({"prepare", "--input", in, "--output", folder.Path("x")});
  EXPECT_EQ(outcome.exit_status, 0) << outcome.error;
  EXPECT_THAT(outcome.out, HasSubstr("2 documents, 4 tokens from 1 files"));
  EXPECT_THAT(outcome.out, HasSubstr("\nskipped in folders: " + in + "/.git (hidden), " + in +
                                     "/README (a readme), " + in +
                                     "/SHA256SUMS (checksums) and 1 "
                                     "more; name a file with --input to read it\n"));
  EXPECT_THAT(outcome.out, HasSubstr("\n2 blank lines passed over\n1 lines have NaN, "));
}

TEST(DataCommand, ANameWithControlCharactersStaysInTheLine) {
  const TempFolder folder;
  const std::string input = folder.Write("a\nb\x1b.jsonl", "[]\n");
  const Outcome outcome = Call({"prepare", "--input", input, "--output", folder.Path("x")});
  EXPECT_EQ(outcome.exit_status, 2);
  EXPECT_THAT(outcome.error, HasSubstr("a\\nb\\x1b.jsonl line 1: an array"));
  EXPECT_EQ(std::count(outcome.error.begin(), outcome.error.end(), '\n'), 1);
}

TEST(DataCommand, InspectsAnEmptyDataset) {
  const TempFolder folder;
  ASSERT_EQ(Call({"prepare", "--input", folder.Write("a.txt", ""), "--output", folder.Path("x")})
                .exit_status,
            0);
  const Outcome outcome = Call({"inspect", folder.Path("x")});
  EXPECT_EQ(outcome.exit_status, 0);
  EXPECT_THAT(outcome.out, HasSubstr("documents  1 (0 sequences)"));
}

TEST(DataCommand, ErrorsOfTheCommandLineAreOneLineAndStatusTwo) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{}, "choose one of: prepare, inspect, batch, bigram"},
      {{"make"}, "unknown sub-command \"make\""},
      {{"prepare", "--frobnicate"}, "--frobnicate: unknown flag"},
      {{"prepare", "--input"}, "--input: value missing"},
      {{"prepare", "--input", "a"}, "--output is missing"},
      {{"prepare", "--output", "a"}, "--input is missing"},
      {{"prepare", "--input", "a", "--output", "b", "--format", "xml"}, "--format=xml"},
      {{"prepare", "a"}, "\"a\": unexpected"},
      {{"prepare", "--input", "a", "--output", "b", "--tokenizer", "bpe"}, "expected byte or gpt2"},
      {{"prepare", "--input", "a", "--output", "b", "--tokenizer", "gpt2"}, "--vocab is missing"},
      {{"prepare", "--input", "a", "--output", "b", "--tokenizer=gpt2", "--vocab=v"},
       "--merges is"},
      {{"prepare", "--input", "a", "--output", "b", "--vocab", "v"},
       "--vocab is for --tokenizer gpt2"},
      {{"prepare", "--input", "a", "--output", "b", "--workers", "0"}, "--workers=0"},
      {{"prepare", "--input", "a", "--output", "b", "--workers", "2000"}, "2000 workers"},
      {{"inspect"}, "PREFIX is missing"},
      {{"inspect", "a", "b"}, "\"b\": unexpected"},
      {{"bigram", "a"}, "--split is missing"},
      {{"bigram", "a", "--split", "90,5,5", "--vocab", "x"}, "--vocab=x"}};
  for (const auto& [args, message] : cases) {
    const Outcome outcome = Call(args);
    EXPECT_EQ(outcome.exit_status, 2);
    EXPECT_THAT(outcome.error, HasSubstr(message));
    EXPECT_EQ(std::count(outcome.error.begin(), outcome.error.end(), '\n'), 1) << outcome.error;
  }
}

TEST(DataCommand, ErrorsOfTheDataAreBadInputToo) {
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"inspect", "/nowhere/x"},
        {"bigram", "/nowhere/x", "--split", "90,5,5"},
        {"prepare", "--input", "/nowhere/x", "--output", "/nowhere/y"}}) {
    const Outcome outcome = Call(args);
    EXPECT_EQ(outcome.exit_status, 2);
    EXPECT_THAT(outcome.error, HasSubstr("/nowhere"));
  }
}

TEST(DataCommand, HelpShowsTheUsage) {
  for (const std::vector<std::string>& args :
       {std::vector<std::string>{"--help"}, {"prepare", "--help"}}) {
    const Outcome outcome = Call(args);
    EXPECT_EQ(outcome.exit_status, 0);
    EXPECT_THAT(outcome.out, HasSubstr("usage: unipool data prepare"));
  }
}

}  // namespace
}  // namespace unipool
