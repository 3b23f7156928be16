// JSON lines of texts or tokens in, the same with log-probabilities out, in the same order.
//
//   {"tokens": [5, 6, 7]} or {"text": "abc"}  ->  {"tokens": [5, 6, 7], "logprobs": [null, -1.2,
//   -0.3]}
//
// A number is the natural logarithm of the token's probability after those before it in its line;
// the first token has none before it, and null. Nothing is put in front or at the end.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "data/tokenizer.h"
#include "launch/analysis/inference_model.h"

namespace unipool {

// What a line may hold; other fields of it are passed over.
struct ScoreRules {
  const Tokenizer* tokenizer = nullptr;  // null: tokens only
  int64_t vocab = 0;
  int64_t max_tokens = 0;  // of a line: what a sequence takes, and the token that it predicts last
};

// Errors say what was found and expected, without file and line.
absl::StatusOr<std::vector<int32_t>> TokensOfLine(absl::string_view line, const ScoreRules& rules);

std::string ScoredLine(const std::vector<int32_t>& tokens, const std::vector<float>& logprobs);

// Where the lines are, and what errors call it.
struct LinesFile {
  std::string path;
  std::string name;
};

// Looks at all of `input` before the first line is scored, and reads it again; errors name file and
// line. `write` is
// called on every rank with each line; an error of it ends the work. Collective.
absl::StatusOr<int64_t> ScoreLines(const LinesFile& input, InferenceModel& model,
                                   const std::function<absl::Status(const std::string&)>& write);

}  // namespace unipool
