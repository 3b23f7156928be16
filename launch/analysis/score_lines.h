// Scores JSON lines of texts or tokens: writes the tokens with their log-probabilities, in the same
// order.
//
//   in   {"tokens": [5, 6, 7]} or {"text": "abc"}
//   out  {"tokens": [5, 6, 7], "logprobs": [null, -1.2, -0.3]}
//
// A number is the natural logarithm of the token's probability given the earlier tokens of its
// line; the first token has no earlier ones and gets null. No token is added at the start or the
// end. Blank lines at the end of the file are passed over; elsewhere they are refused, because
// every line of the input has one of the output.
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

// Limits of a line. Fields other than "tokens" and "text" are ignored.
struct ScoreRules {
  const Tokenizer* tokenizer = nullptr;  // borrowed; null: lines must have "tokens"
  int64_t vocab = 0;
  int64_t max_tokens = 0;  // model.sequence + 1: the inputs and the last predicted token
};

// Parses a line. INVALID_ARGUMENT says what was found and expected, without file and line.
absl::StatusOr<std::vector<int32_t>> TokensOfLine(absl::string_view line, const ScoreRules& rules);

// Formats an output line; `logprobs` has one element fewer than `tokens` (none for no tokens).
std::string ScoredLine(const std::vector<int32_t>& tokens, const std::vector<float>& logprobs);

// An input file.
struct LinesFile {
  std::string path;
  std::string name;  // used in errors instead of the path
};

// Scores all lines of `input` and returns their number. The file is read twice: all lines are
// checked before the first one is scored. Calls `write` on every rank with each output line and
// stops at its first error. INVALID_ARGUMENT names file and line. Collective.
absl::StatusOr<int64_t> ScoreLines(const LinesFile& input, InferenceModel& model,
                                   const std::function<absl::Status(const std::string&)>& write);

}  // namespace unipool
