// Accuracy on questions with given answers, for example ARC, PIQA, HellaSwag, WinoGrande and RACE,
// and LAMBADA with the last word as the only choice.
//
// A question is a JSON line {"context": text, "choices": [text, ...], "gold": index}. The text
// context + choice is tokenized as a whole, so a space between the two must be part of the choice.
// The tokens beyond the number of tokens of the context alone are scored. As in EleutherAI's
// lm-evaluation-harness, trailing white space of the context counts as part of the choice, and an
// end-of-document token replaces an empty context. A text that is too long loses tokens at its
// front.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "data/tokenizer.h"
#include "launch/analysis/inference_model.h"

namespace unipool {

struct Question {
  std::string context;
  std::vector<std::string> choices;
  int64_t gold = 0;  // index of the correct choice
};

// Reads all questions of a file; blank lines are passed over. INVALID_ARGUMENT names the file, the
// line and what was expected.
absl::StatusOr<std::vector<Question>> ReadQuestions(const std::string& path);

struct ChoiceTokens {
  std::vector<int32_t> tokens;  // context and choice
  int64_t predicted = 0;        // number of tokens at the end that belong to the choice
};
// Keeps at most the last `max_tokens` tokens.
ChoiceTokens EncodeChoice(const Tokenizer& tokenizer, const std::string& context,
                          const std::string& choice, int64_t max_tokens);

// UTF-8 bytes of the choice without leading white space: the divisor of its normalized
// log-probability.
int64_t ChoiceBytes(const std::string& choice);

struct Accuracy {
  double share = 0;
  double standard_error = 0;  // sqrt(share (1 - share) / (questions - 1)); 0 for one question
};
Accuracy MakeAccuracy(int64_t right, int64_t questions);

struct TaskReport {
  std::string file;
  int64_t questions = 0;
  // Share of questions whose gold choice has the largest sum of log-probabilities (on ties the
  // first choice is taken).
  Accuracy accuracy;
  // The same with sums divided by ChoiceBytes.
  Accuracy normalized;
  // Share of questions with a gold choice all of whose tokens are the model's most likely ones; the
  // accuracy of tasks with a single choice.
  Accuracy greedy;
  double gold_loss = 0;      // mean over questions of -log p(gold choice), nats
  bool has_choices = false;  // some question has more than one choice
};

// Scores all choices of a file. `hook` (may be null) sees the choices numbered from 0 in file
// order. INVALID_ARGUMENT if the model has no tokenizer or the file is malformed. Collective.
absl::StatusOr<TaskReport> RunTask(const std::string& path, BatchHook* hook, InferenceModel& model);

}  // namespace unipool
