#include "launch/analysis/multiple_choice.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "data/input_file.h"
#include "data/prepare/json_lines.h"
#include "launch/analysis/sequence_scores.h"
#include "runtime/json.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Number of choices whose tokens and scores are in memory at a time; batches are smaller.
constexpr size_t kChoicesAtOnce = 4096;

bool IsQuestion(const Json& json) {
  const Json* const context = json.Find("context");
  const Json* const choices = json.Find("choices");
  const Json* const gold = json.Find("gold");
  if (context == nullptr || !context->is_string()) return false;
  if (choices == nullptr || !choices->is_array() || choices->elements().empty()) return false;
  for (const Json& choice : choices->elements()) {
    if (!choice.is_string() || choice.string().empty()) return false;
  }
  return gold != nullptr && gold->is_integer();
}

absl::StatusOr<Question> ParseQuestion(absl::string_view line) {
  constexpr char kExpected[] =
      "expected {\"context\": text, \"choices\": [texts, none empty], \"gold\": index}";
  const absl::StatusOr<Json> json = Json::Parse(line);
  if (!json.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(json.status().message(), "; ", kExpected));
  }
  if (!IsQuestion(*json)) return absl::InvalidArgumentError(kExpected);
  Question question{
      .context = json->at("context").string(), .choices = {}, .gold = json->at("gold").integer()};
  for (const Json& choice : json->at("choices").elements()) {
    question.choices.push_back(choice.string());
  }
  const int64_t choices = static_cast<int64_t>(question.choices.size());
  if (question.gold >= 0 && question.gold < choices) return question;
  return absl::InvalidArgumentError(absl::StrCat("\"gold\" is ", question.gold,
                                                 ", expected an index into ", choices,
                                                 choices == 1 ? " choice" : " choices"));
}

absl::StatusOr<std::vector<Question>> CannotShare(const std::string& pipe, int ranks) {
  return absl::InvalidArgumentError(
      absl::StrCat(pipe, ": ", ranks, " ranks cannot share a pipe; give a file, or run one rank"));
}

// The score of a choice.
struct Outcome {
  double logprob = 0;     // sum over the tokens of the choice
  bool is_greedy = true;  // every token is the model's most likely one
};

Outcome OutcomeOf(const ChoiceTokens& choice, const SequenceScores& scores) {
  Outcome outcome;
  const size_t first = scores.logprobs.size() - choice.predicted;
  for (size_t i = first; i < scores.logprobs.size(); ++i) {
    outcome.logprob += scores.logprobs[i];
    outcome.is_greedy &= scores.likeliest[i] == choice.tokens[i + 1];
  }
  return outcome;
}

// Index of the largest value; on ties the lowest index.
template <typename Value>
int64_t Best(size_t choices, const Value& value) {
  size_t best = 0;
  for (size_t i = 1; i < choices; ++i) {
    if (value(i) > value(best)) best = i;
  }
  return static_cast<int64_t>(best);
}

std::vector<Outcome> ScoreChoices(const std::vector<Question>& questions, BatchHook* hook,
                                  InferenceModel& model) {
  const int64_t max_tokens = model.run().model().sequence() + 1;
  std::vector<Outcome> outcomes;
  std::vector<ChoiceTokens> choices;
  const auto score = [&] {
    std::vector<std::vector<int32_t>> sequences;
    for (const ChoiceTokens& choice : choices) sequences.push_back(choice.tokens);
    const auto scores =
        ScoreSequences(sequences, static_cast<int64_t>(outcomes.size()), hook, model);
    for (size_t i = 0; i < choices.size(); ++i) {
      outcomes.push_back(OutcomeOf(choices[i], scores[i]));
    }
    choices.clear();
  };
  for (const Question& question : questions) {
    for (const std::string& choice : question.choices) {
      choices.push_back(EncodeChoice(*model.tokenizer(), question.context, choice, max_tokens));
      if (choices.size() == kChoicesAtOnce) score();
    }
  }
  score();
  return outcomes;
}

TaskReport Count(const std::vector<Question>& questions, const std::vector<Outcome>& outcomes) {
  int64_t right = 0, normalized = 0, greedy = 0;
  TaskReport report;
  report.questions = static_cast<int64_t>(questions.size());
  const Outcome* of = outcomes.data();
  for (const Question& question : questions) {
    const size_t choices = question.choices.size();
    report.has_choices |= choices > 1;
    right += Best(choices, [of](size_t i) { return of[i].logprob; }) == question.gold;
    normalized += Best(choices, [&](size_t i) {
                    return of[i].logprob / static_cast<double>(ChoiceBytes(question.choices[i]));
                  }) == question.gold;
    greedy += of[question.gold].is_greedy ? 1 : 0;
    report.gold_loss -= of[question.gold].logprob / static_cast<double>(report.questions);
    of += choices;
  }
  report.accuracy = MakeAccuracy(right, report.questions);
  report.normalized = MakeAccuracy(normalized, report.questions);
  report.greedy = MakeAccuracy(greedy, report.questions);
  return report;
}

}  // namespace

absl::StatusOr<std::vector<Question>> ReadQuestions(const std::string& path) {
  ASSIGN_OR_RETURN(LineReader reader, LineReader::Open(path));
  std::vector<Question> questions;
  absl::string_view line;
  for (;;) {
    ASSIGN_OR_RETURN(const bool is_there, reader.Next(&line));
    if (!is_there) break;
    if (IsBlankLine(line)) continue;
    absl::StatusOr<Question> question = ParseQuestion(line);
    if (!question.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", reader.line_number(), ": ", question.status().message()));
    }
    questions.push_back(*std::move(question));
  }
  if (!questions.empty()) return questions;
  return absl::InvalidArgumentError(
      absl::StrCat(path, ": the file is empty; write one question per line"));
}

ChoiceTokens EncodeChoice(const Tokenizer& tokenizer, const std::string& context,
                          const std::string& choice, int64_t max_tokens) {
  const absl::string_view stripped = absl::StripTrailingAsciiWhitespace(context);
  std::vector<int32_t> before;
  tokenizer.Encode(stripped, &before);
  ChoiceTokens encoded;
  tokenizer.Encode(absl::StrCat(context, choice), &encoded.tokens);
  encoded.predicted = std::max<int64_t>(
      1, static_cast<int64_t>(encoded.tokens.size()) - static_cast<int64_t>(before.size()));
  if (before.empty()) encoded.tokens.insert(encoded.tokens.begin(), tokenizer.end_of_document());
  const int64_t excess = static_cast<int64_t>(encoded.tokens.size()) - max_tokens;
  if (excess > 0) encoded.tokens.erase(encoded.tokens.begin(), encoded.tokens.begin() + excess);
  // If the choice alone exceeds the sequence, only its remaining tokens are scored.
  encoded.predicted = std::min(encoded.predicted, static_cast<int64_t>(encoded.tokens.size()) - 1);
  return encoded;
}

int64_t ChoiceBytes(const std::string& choice) {
  const absl::string_view stripped = absl::StripLeadingAsciiWhitespace(choice);
  return static_cast<int64_t>(stripped.empty() ? choice.size() : stripped.size());
}

Accuracy MakeAccuracy(int64_t right, int64_t questions) {
  const double share = static_cast<double>(right) / static_cast<double>(questions);
  if (questions < 2) return {share, 0};
  return {share, std::sqrt(share * (1 - share) / static_cast<double>(questions - 1))};
}

absl::StatusOr<TaskReport> RunTask(const std::string& path, BatchHook* hook,
                                   InferenceModel& model) {
  if (model.tokenizer() == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": questions need a tokenizer; set data.tokenizer and its files"));
  }
  const int ranks = model.world().size();
  const auto questions = ranks > 1 && IsPipe(path) ? CannotShare(path, ranks) : ReadQuestions(path);
  RETURN_IF_ERROR(model.world().Agree(questions.status()));
  TaskReport report = Count(*questions, ScoreChoices(*questions, hook, model));
  report.file = path;
  return report;
}

}  // namespace unipool
