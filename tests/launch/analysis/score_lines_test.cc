// Scores of lines equal those of each sequence alone, in order, on any number of ranks; invalid
// lines are named.
#include "launch/analysis/score_lines.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>
#include <vector>

#include "configs/run.pb.h"
#include "launch/analysis/sequence_scores.h"
#include "launch/analysis/text_loss.h"
#include "runtime/json.h"
#include "tests/support/looking.h"
#include "tests/support/status_matchers.h"

namespace unipool {
namespace {

using testing::LookingTest;
using testing::Variant;
using Sequences = std::vector<std::vector<int32_t>>;

// Sequences of all lengths from 0 to the maximum of a model of 16 tokens.
Sequences MixedSequences() {
  Sequences sequences;
  for (int i = 0; i < 41; ++i) {
    std::vector<int32_t> tokens;
    for (int t = 0; t < i * 7 % 18; ++t) tokens.push_back((i * 31 + t * t * 13) % 257);
    sequences.push_back(tokens);
  }
  return sequences;
}

class ScoreTest : public LookingTest {
 protected:
  static std::vector<float> Logprobs(const std::vector<SequenceScores>& scores) {
    std::vector<float> all;
    for (const SequenceScores& score : scores) {
      all.insert(all.end(), score.logprobs.begin(), score.logprobs.end());
    }
    return all;
  }

  // Runs one sequence at a time, padded with a token that does not affect the scores.
  static std::vector<float> Naive(const Sequences& sequences, InferenceModel& model) {
    const int64_t length = model.run().model().sequence();
    std::vector<float> all;
    for (const std::vector<int32_t>& sequence : sequences) {
      if (sequence.size() < 2) continue;
      TokenBatch batch{.sequence = length, .ids = {0}};
      batch.tokens.assign(length, 77);
      batch.targets.assign(length, 77);
      std::copy(sequence.begin(), sequence.end() - 1, batch.tokens.begin());
      std::copy(sequence.begin() + 1, sequence.end(), batch.targets.begin());
      TokenAnswers answers;
      model.Run(batch, TokenOutputs::kLosses, nullptr, &answers);
      for (size_t t = 0; t + 1 < sequence.size(); ++t) all.push_back(-answers.losses[t]);
    }
    return all;
  }

  std::string Write(const std::string& text) const {
    std::ofstream(folder_.Path("in.jsonl")) << text;
    return folder_.Path("in.jsonl");
  }

  // The output lines on rank 0, or the error.
  absl::StatusOr<std::vector<std::string>> Score(const std::string& input, int ranks = 1) const {
    using Lines = absl::StatusOr<std::vector<std::string>>;
    return Look<Lines>(Run(Variant::kUniPool), ranks, [&](InferenceModel& model) -> Lines {
      std::vector<std::string> lines;
      const auto scored = ScoreLines({input, input}, model, [&lines](const std::string& line) {
        lines.push_back(line);
        return absl::OkStatus();
      });
      if (!scored.ok()) return scored.status();
      return lines;
    });
  }

  void ExpectRefused(const std::string& text, const std::string& part) const {
    const auto lines = Score(Write("{\"tokens\": [1, 2]}\n" + text + "\n"));
    ASSERT_FALSE(lines.ok()) << text;
    EXPECT_THAT(lines.status().message(), ::testing::HasSubstr("in.jsonl:2: ")) << text;
    EXPECT_THAT(lines.status().message(), ::testing::HasSubstr(part)) << text;
  }
};

TEST_F(ScoreTest, ScoresEqualThoseOfEachSequenceAlone) {
  const Sequences sequences = MixedSequences();
  for (const Variant variant : {Variant::kDense, Variant::kVanilla, Variant::kUniPoolTop2}) {
    const config::Run run = Run(variant);
    const auto naive = Look<std::vector<float>>(
        run, 1, [&](InferenceModel& model) { return Naive(sequences, model); });
    for (const int ranks : {1, 2, 3, 7}) {
      for (const int64_t batch_tokens : {16, 200}) {
        const auto scored = Look<std::vector<float>>(
            run, ranks,
            [&](InferenceModel& model) {
              return Logprobs(ScoreSequences(sequences, 0, nullptr, model));
            },
            batch_tokens);
        EXPECT_THAT(scored, ::testing::Pointwise(::testing::FloatNear(2e-5f), naive));
      }
    }
  }
}

TEST_F(ScoreTest, ScoresOfTheTextSumToItsLoss) {
  const config::Run run = Run(Variant::kUniPool);
  const auto text = Text(run);
  Sequences sequences(8, std::vector<int32_t>(run.model().sequence() + 1));
  for (int i = 0; i < 8; ++i) ASSERT_OK(text->Read(i, absl::MakeSpan(sequences[i])));
  const double difference = Look<double>(run, 3, [&](InferenceModel& model) {
    const TextLoss loss = MeasureTextLoss(*text, nullptr, model).value();
    double sum = 0;
    for (const float logprob : Logprobs(ScoreSequences(sequences, 0, nullptr, model))) {
      sum -= logprob;
    }
    return sum / static_cast<double>(loss.tokens) - loss.validation.loss;
  });
  EXPECT_NEAR(difference, 0, 1e-6);
}

TEST_F(ScoreTest, LinesKeepTheirOrder) {
  const std::string input = Write(
      "{\"tokens\": [97, 98, 99]}\n{\"tokens\": []}\n{\"text\": \"abc\", \"id\": 7}\n"
      "{\"tokens\": [5]}\n{\"text\": \"a longer line\"}\n");
  for (const int ranks : {1, 3}) {
    const auto lines = Score(input, ranks);
    ASSERT_OK(lines);
    ASSERT_EQ(lines->size(), 5u);
    const Json ids = Json::Parse((*lines)[0]).value(), text = Json::Parse((*lines)[2]).value();
    EXPECT_EQ(ids.at("tokens"), text.at("tokens"));
    EXPECT_NEAR(ids.at("logprobs").elements()[2].number(),
                text.at("logprobs").elements()[2].number(), 1e-5);
    EXPECT_EQ((*lines)[1], "{\"tokens\": [], \"logprobs\": []}");
    EXPECT_EQ((*lines)[3], "{\"tokens\": [5], \"logprobs\": [null]}");
    const Json line = Json::Parse((*lines)[4]).value();
    const std::vector<Json>& logprobs = line.at("logprobs").elements();
    EXPECT_EQ(line.at("tokens").elements().size(), 13u);
    ASSERT_EQ(logprobs.size(), 13u);
    EXPECT_TRUE(logprobs[0].is_null());
    for (int t = 1; t < 13; ++t) EXPECT_LT(logprobs[t].number(), 0);
  }
}

TEST_F(ScoreTest, BadLinesAreNamed) {
  ExpectRefused("{\"tokens\": [1, 257]}", "\"tokens\"[1] is 257");
  ExpectRefused("{\"tokens\": [-1]}", "\"tokens\"[0] is -1");
  ExpectRefused("{\"tokens\": [1.5]}", "\"tokens\"[0] is 1.5");
  ExpectRefused("{\"tokens\": [1e30, 18446744073709551615]}", "\"tokens\"[0] is");
  ExpectRefused("{\"tokens\": [18446744073709551615]}", "\"tokens\"[0] is");
  ExpectRefused("{\"tokens\": 3}", "expected {\"tokens\": [ids]}");
  ExpectRefused("{\"text\": \"x\", \"tokens\": [1]}", "exactly one of them");
  ExpectRefused("[1, 2]", "expected {\"tokens\": [ids]}");
  ExpectRefused("{\"tokens\": [1, NaN]}", "\"tokens\"[1] is NaN");
  ExpectRefused("{\"tokens\": [1, 1e999]}", "\"tokens\"[1] is a number beyond");
  ExpectRefused("{\"text\": \"\\ud800\"}", "\\ud800 is half of a surrogate pair");
  ExpectRefused("\n{\"tokens\": [1]}", "a blank line has no result; remove it");
  ExpectRefused("{\"text\": \"more than the sixteen tokens of it\"}",
                "34 tokens, expected at most model.sequence + 1 = 17");
}

TEST_F(ScoreTest, MessagesShowLittleOfALongLine) {
  const std::string name(100'000, 'q'), open(100'000, '['), close(100'000, ']');
  for (const std::string& line :
       {"[1, \"" + name + "\"]", "[1, " + open + close + "]", "[1, [\"" + name + "\"]]",
        "[{\"" + name + "\": 1}]", "\"" + name + "\"", "[\"" + name}) {
    const auto lines = Score(Write("{\"tokens\": " + line + "}\n"));
    EXPECT_FALSE(lines.ok());
    EXPECT_LT(lines.status().message().size(), 350u) << line.substr(0, 20);
  }
}

TEST_F(ScoreTest, LinesThatPythonAndWindowsWriteAreRead) {
  const auto lines = Score(Write(
      "\xef\xbb\xbf{\"tokens\": [5], \"x\": NaN}\r\n{\"tokens\": [6], \"y\": 1e999}\r\n\r\n\n"));
  ASSERT_OK(lines);
  EXPECT_THAT(*lines, ::testing::ElementsAre("{\"tokens\": [5], \"logprobs\": [null]}",
                                             "{\"tokens\": [6], \"logprobs\": [null]}"));
}

TEST_F(ScoreTest, AMissingFileIsNamed) {
  const auto lines = Score("/nowhere/in.jsonl");
  EXPECT_THAT(lines.status().message(), ::testing::HasSubstr("/nowhere/in.jsonl"));
}

TEST_F(ScoreTest, AFailedWriteEndsTheWork) {
  const std::string input = Write("{\"tokens\": [1, 2]}\n{\"tokens\": [3]}\n");
  const auto status = Look<absl::Status>(Run(Variant::kUniPool), 2, [&](InferenceModel& model) {
    return ScoreLines({input, input}, model,
                      [](const std::string&) { return absl::DataLossError("full"); })
        .status();
  });
  EXPECT_THAT(status.message(), ::testing::HasSubstr("full"));
}

}  // namespace
}  // namespace unipool
