// Questions with given answers: reading, tokenizing and accuracy.
#include "launch/analysis/multiple_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <string>
#include <vector>

#include "launch/analysis/sequence_scores.h"
#include "tests/support/looking.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::LookingTest;
using testing::Variant;

constexpr char kQuestions[] =
    "{\"context\": \"ab\", \"choices\": [\" c\", \" dd\", \" eee\"], \"gold\": 1}\n"
    "{\"context\": \"\", \"choices\": [\"yes\", \"no\"], \"gold\": 0, \"id\": \"x\"}\n"
    "{\"context\": \"far longer than any sequence is\", \"choices\": [\"a\", \"b\"], "
    "\"gold\": 1}\n";

class TaskTest : public LookingTest {
 protected:
  std::string Write(const std::string& text) const {
    std::ofstream(folder_.Path("task.jsonl")) << text;
    return folder_.Path("task.jsonl");
  }

  TaskReport Run1(const std::string& path, int ranks) const {
    return Look<TaskReport>(Run(Variant::kUniPool), ranks, [&](InferenceModel& model) {
      return RunTask(path, nullptr, model).value();
    });
  }

  void ExpectRefused(const std::string& line, const std::string& part) const {
    const auto questions = ReadQuestions(Write(kQuestions + line + "\n"));
    ASSERT_FALSE(questions.ok()) << line;
    EXPECT_THAT(questions.status().message(), HasSubstr("task.jsonl:4: ")) << line;
    EXPECT_THAT(questions.status().message(), HasSubstr(part)) << line;
    EXPECT_LT(questions.status().message().size(), 350u);
  }
};

TEST(EncodeChoice, TokensBeyondTheContextBelongToTheChoice) {
  const auto tokenizer = CreateByteTokenizer();
  const ChoiceTokens plain = EncodeChoice(*tokenizer, "ab", " c", 17);
  EXPECT_THAT(plain.tokens, ElementsAre('a', 'b', ' ', 'c'));
  EXPECT_EQ(plain.predicted, 2);
}

TEST(EncodeChoice, TrailingSpacesBelongToTheChoice) {
  const auto tokenizer = CreateByteTokenizer();
  EXPECT_EQ(EncodeChoice(*tokenizer, "ab  ", "c", 17).predicted, 3);
}

TEST(EncodeChoice, AnEmptyContextIsTheEndOfADocument) {
  const auto tokenizer = CreateByteTokenizer();
  const ChoiceTokens empty = EncodeChoice(*tokenizer, "", "no", 17);
  EXPECT_THAT(empty.tokens, ElementsAre(256, 'n', 'o'));
  EXPECT_EQ(empty.predicted, 2);
}

TEST(EncodeChoice, ALongTextLosesTokensAtItsFront) {
  const auto tokenizer = CreateByteTokenizer();
  const ChoiceTokens cut = EncodeChoice(*tokenizer, "abcdef", "gh", 4);
  EXPECT_THAT(cut.tokens, ElementsAre('e', 'f', 'g', 'h'));
  EXPECT_EQ(cut.predicted, 2);
  EXPECT_EQ(EncodeChoice(*tokenizer, "a", "bcdefgh", 4).predicted, 3);
}

TEST(ChoiceBytes, LeavesOutLeadingSpace) {
  EXPECT_EQ(ChoiceBytes(" Paris"), 5);
  EXPECT_EQ(ChoiceBytes("\xc3\xa9t\xc3\xa9"), 5) << "bytes, not characters";
  EXPECT_EQ(ChoiceBytes("  "), 2);
}

TEST(MakeAccuracy, GivesTheStandardErrorOfAMean) {
  EXPECT_EQ(MakeAccuracy(3, 4).share, 0.75);
  EXPECT_DOUBLE_EQ(MakeAccuracy(3, 4).standard_error, std::sqrt(0.75 * 0.25 / 3));
  EXPECT_EQ(MakeAccuracy(1, 1).standard_error, 0);
}

// Compares with accuracies computed here from the scores of each choice alone.
TEST_F(TaskTest, AccuraciesFollowFromTheScores) {
  const std::string path = Write(kQuestions);
  const auto questions = ReadQuestions(path).value();
  const auto expected =
      Look<std::vector<double>>(Run(Variant::kUniPool), 1, [&](InferenceModel& model) {
        std::vector<double> sums(4, 0.0);  // right, right normalized, greedy, gold loss
        for (const Question& question : questions) {
          std::vector<double> logprobs, normalized;
          for (size_t i = 0; i < question.choices.size(); ++i) {
            const ChoiceTokens choice =
                EncodeChoice(*model.tokenizer(), question.context, question.choices[i], 17);
            const std::vector<std::vector<int32_t>> alone = {choice.tokens};
            const SequenceScores score = ScoreSequences(alone, 0, nullptr, model)[0];
            double sum = 0;
            bool greedy = true;
            for (int64_t t = 0; t < choice.predicted; ++t) {
              sum += score.logprobs[score.logprobs.size() - 1 - t];
              greedy &= score.likeliest[score.likeliest.size() - 1 - t] ==
                        choice.tokens[choice.tokens.size() - 1 - t];
            }
            logprobs.push_back(sum);
            normalized.push_back(sum / ChoiceBytes(question.choices[i]));
            if (static_cast<int64_t>(i) == question.gold) sums[3] -= sum / 3;
            if (static_cast<int64_t>(i) == question.gold) sums[2] += greedy;
          }
          const auto best = [](const std::vector<double>& values) {
            return std::max_element(values.begin(), values.end()) - values.begin();
          };
          sums[0] += best(logprobs) == question.gold;
          sums[1] += best(normalized) == question.gold;
        }
        return sums;
      });
  for (const int ranks : {1, 3}) {
    const TaskReport report = Run1(path, ranks);
    EXPECT_EQ(report.questions, 3);
    EXPECT_TRUE(report.has_choices);
    EXPECT_DOUBLE_EQ(report.accuracy.share, expected[0] / 3);
    EXPECT_DOUBLE_EQ(report.normalized.share, expected[1] / 3);
    EXPECT_DOUBLE_EQ(report.greedy.share, expected[2] / 3);
    EXPECT_NEAR(report.gold_loss, expected[3], 1e-4);
  }
}

// The model's most likely continuation counts as greedy, any other one does not.
TEST_F(TaskTest, ASingleChoiceIsJudgedByGreedyDecoding) {
  std::vector<std::vector<int32_t>> sequences;
  for (int32_t c = 'a'; c <= 'z'; ++c) sequences.push_back({'a', c, 'x'});
  const auto scores = Look<std::vector<SequenceScores>>(
      Run(Variant::kUniPool), 1,
      [&](InferenceModel& model) { return ScoreSequences(sequences, 0, nullptr, model); });
  std::string lines;  // for the first context whose most likely next token is printable
  for (size_t i = 0; i < scores.size() && lines.empty(); ++i) {
    const int32_t right = scores[i].likeliest[1];
    if (right < '0' || right > 'z' || right == '\\') continue;
    for (const char choice : {static_cast<char>(right), '!'}) {
      lines += "{\"context\": \"a" + std::string(1, static_cast<char>('a' + i)) +
               "\", \"choices\": [\"" + choice + "\"], \"gold\": 0}\n";
    }
  }
  ASSERT_FALSE(lines.empty());
  const TaskReport report = Run1(Write(lines), 2);
  EXPECT_FALSE(report.has_choices);
  EXPECT_EQ(report.questions, 2);
  EXPECT_EQ(report.greedy.share, 0.5);
}

TEST_F(TaskTest, LinesThatPythonAndWindowsWriteAreRead) {
  std::string lines = "\xef\xbb\xbf\n";
  for (const char byte : std::string(kQuestions))
    lines += byte == '\n' ? "\r\n\r\n" : std::string(1, byte);
  lines += "{\"context\": \"\", \"choices\": [\"a\"], \"gold\": 0, \"p\": NaN, \"q\": -1e999}\n \n";
  const auto questions = ReadQuestions(Write(lines));
  ASSERT_TRUE(questions.ok()) << questions.status();
  EXPECT_EQ(questions->size(), 4u);
}

TEST_F(TaskTest, BadQuestionsAreNamed) {
  ExpectRefused("{\"context\": \"a\", \"choices\": [\"b\"]}", "expected {\"context\"");
  ExpectRefused("{\"context\": \"a\", \"choices\": [], \"gold\": 0}", "expected {\"context\"");
  ExpectRefused("{\"context\": \"a\", \"choices\": [\"\"], \"gold\": 0}", "none empty");
  ExpectRefused("{\"context\": 1, \"choices\": [\"b\"], \"gold\": 0}", "expected {\"context\"");
  ExpectRefused("{\"context\": \"a\", \"choices\": [\"b\"], \"gold\": 1}", "\"gold\" is 1");
  ExpectRefused("{\"context\": \"a\", \"choices\": [\"b\"], \"gold\": -1}", "index into 1 choice");
  ExpectRefused("not JSON", "not valid JSON at byte 2, near \"no\"; expected {\"context\"");
  ExpectRefused("{\"context\": NaN, \"choices\": [\"b\"], \"gold\": 0}", "expected {\"context\"");
  ExpectRefused("{\"context\": \"a\", \"choices\": [\"b\"], \"gold\": 1e999}", "expected {\"con");
  ExpectRefused("{\"context\": \"" + std::string(100'000, 'q'), "near \"qqq");
  EXPECT_THAT(ReadQuestions(Write("")).status().message(), HasSubstr("is empty"));
}

}  // namespace
}  // namespace unipool
