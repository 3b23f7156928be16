// Accuracy on questions with given answers: ARC, PIQA, HellaSwag, WinoGrande and RACE as choices,
// LAMBADA's last word as the only continuation.
//
// A question is a JSON line {"context": text, "choices": [text, ...], "gold": index}. What is
// scored is context + choice, as they stand: a space between them belongs to the choice. Tokens are
// those of the whole text; those beyond the context's own are the choice's. Trailing spaces of the
// context count as the choice's, and an empty context is the end of a document, as in EleutherAI's
// harness. A text that is too long loses tokens at its front.
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
  int64_t gold = 0;
};

// Errors name file and line, and what was expected.
absl::StatusOr<std::vector<Question>> ReadQuestions(const std::string& path);

struct ChoiceTokens {
  std::vector<int32_t> tokens;  // of context and choice
  int64_t predicted = 0;        // how many at the end are the choice's
};
ChoiceTokens EncodeChoice(const Tokenizer& tokenizer, const std::string& context,
                          const std::string& choice, int64_t max_tokens);

// UTF-8 bytes of the choice without leading white space, by which its log-probability is divided.
int64_t ChoiceBytes(const std::string& choice);

struct Accuracy {
  double share = 0;
  double standard_error = 0;  // sqrt(share (1 - share) / (questions - 1)); 0 for one question
};
Accuracy MakeAccuracy(int64_t right, int64_t questions);

struct TaskReport {
  std::string file;
  int64_t questions = 0;
  // The largest sum of log-probabilities is the gold choice's; the first of equal ones is taken.
  Accuracy accuracy;
  // The same with sums divided by ChoiceBytes.
  Accuracy normalized;
  // Every token of the gold choice is the likeliest: accuracy where there is but one choice.
  Accuracy greedy;
  double gold_loss = 0;  // mean over questions of -log p(gold choice), nats
  bool has_choices = false;
};

// Collective. `hook`, which may be null, sees the file's choices numbered from 0.
absl::StatusOr<TaskReport> RunTask(const std::string& path, BatchHook* hook, InferenceModel& model);

}  // namespace unipool
