#include "launch/analysis/score_lines.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "configs/run.pb.h"
#include "data/prepare/json_lines.h"
#include "launch/analysis/sequence_scores.h"
#include "runtime/json.h"
#include "runtime/status.h"

namespace unipool {
namespace {

// Tokens of the lines in memory at a time, which are sorted by length together; batches are
// smaller.
constexpr int64_t kTokensAtOnce = 1 << 20;

absl::StatusOr<std::vector<int32_t>> TokensOfArray(const Json& array, int64_t vocab) {
  std::vector<int32_t> tokens;
  for (const Json& token : array.elements()) {
    const bool in_vocab = token.is_integer() && token.integer() >= 0 && token.integer() < vocab;
    if (!in_vocab) {
      return absl::InvalidArgumentError(
          absl::StrCat("\"tokens\"[", tokens.size(), "] is ", token.Shown(),
                       ", expected an integer from 0 to below model.vocab = ", vocab));
    }
    tokens.push_back(static_cast<int32_t>(token.integer()));
  }
  return tokens;
}

absl::StatusOr<std::vector<int32_t>> TokensOfJson(const Json& json, const ScoreRules& rules) {
  const Json* const listed = json.Find("tokens");
  const Json* const text = json.Find("text");
  const bool has_tokens = listed != nullptr && listed->is_array();
  const bool has_text = text != nullptr && text->is_string();
  if (has_tokens == has_text) {
    return absl::InvalidArgumentError(
        "expected {\"tokens\": [ids]} or {\"text\": \"...\"}, exactly one of them");
  }
  if (has_tokens) return TokensOfArray(*listed, rules.vocab);
  if (rules.tokenizer == nullptr) {
    return absl::InvalidArgumentError(
        "\"text\" needs a tokenizer; use \"tokens\", or set data.tokenizer and its files");
  }
  std::vector<int32_t> tokens;
  rules.tokenizer->Encode(text->string(), &tokens);
  return tokens;
}

// Reads the lines of a file as tokens.
class TokenLines {
 public:
  static absl::StatusOr<TokenLines> Open(const LinesFile& file, const ScoreRules& rules) {
    ASSIGN_OR_RETURN(LineReader reader, LineReader::Open(file.path));
    return TokenLines(file.name, std::move(reader), rules);
  }

  // Blank lines at the end of the file are passed over. Appends lines to `lines` until they have
  // kTokensAtOnce tokens or the file ends.
  absl::Status Read(std::vector<std::vector<int32_t>>* lines) {
    absl::string_view line;
    for (int64_t tokens = 0; tokens < kTokensAtOnce;) {
      ASSIGN_OR_RETURN(const bool is_there, reader_.Next(&line));
      if (!is_there) return absl::OkStatus();
      if (IsBlankLine(line)) {
        if (blank_line_ == 0) blank_line_ = reader_.line_number();
        continue;
      }
      if (blank_line_ > 0) {
        return absl::InvalidArgumentError(
            absl::StrCat(name_, ":", blank_line_,
                         ": a blank line has no result; remove it, or write {\"tokens\": []}"));
      }
      absl::StatusOr<std::vector<int32_t>> ids = TokensOfLine(line, rules_);
      if (!ids.ok()) {
        return absl::InvalidArgumentError(
            absl::StrCat(name_, ":", reader_.line_number(), ": ", ids.status().message()));
      }
      tokens += static_cast<int64_t>(ids->size()) + 1;
      lines->push_back(*std::move(ids));
    }
    return absl::OkStatus();
  }

 private:
  TokenLines(std::string name, LineReader reader, const ScoreRules& rules)
      : name_(std::move(name)), reader_(std::move(reader)), rules_(rules) {}

  const std::string name_;
  LineReader reader_;
  const ScoreRules rules_;
  int64_t blank_line_ = 0;  // the first of the blank lines just read; 0 = none
};

// Reads all lines to find errors before any line is scored.
absl::Status CheckLines(const LinesFile& input, const ScoreRules& rules) {
  ASSIGN_OR_RETURN(TokenLines lines, TokenLines::Open(input, rules));
  std::vector<std::vector<int32_t>> sequences;
  do {
    sequences.clear();
    RETURN_IF_ERROR(lines.Read(&sequences));
  } while (!sequences.empty());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> TokensOfLine(absl::string_view line, const ScoreRules& rules) {
  const absl::StatusOr<Json> json = Json::Parse(line);
  if (!json.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(
        json.status().message(), "; expected {\"tokens\": [ids]} or {\"text\": \"...\"}"));
  }
  ASSIGN_OR_RETURN(std::vector<int32_t> tokens, TokensOfJson(*json, rules));
  if (static_cast<int64_t>(tokens.size()) <= rules.max_tokens) return tokens;
  return absl::InvalidArgumentError(absl::StrCat(
      tokens.size(), " tokens, expected at most model.sequence + 1 = ", rules.max_tokens,
      "; split the line"));
}

std::string ScoredLine(const std::vector<int32_t>& tokens, const std::vector<float>& logprobs) {
  std::string numbers = tokens.empty() ? "" : "null";
  for (const float logprob : logprobs) absl::StrAppendFormat(&numbers, ", %.9g", logprob);
  return absl::StrCat("{\"tokens\": [", absl::StrJoin(tokens, ", "), "], \"logprobs\": [", numbers,
                      "]}");
}

absl::StatusOr<int64_t> ScoreLines(const LinesFile& input, InferenceModel& model,
                                   const std::function<absl::Status(const std::string&)>& write) {
  const World& world = model.world();
  const ScoreRules rules{.tokenizer = model.tokenizer(),
                         .vocab = model.run().model().vocab(),
                         .max_tokens = model.run().model().sequence() + 1};
  RETURN_IF_ERROR(world.Agree(CheckLines(input, rules)));
  auto lines = TokenLines::Open(input, rules);
  RETURN_IF_ERROR(world.Agree(lines.status()));
  int64_t scored = 0;
  std::vector<std::vector<int32_t>> sequences;
  for (;;) {
    sequences.clear();
    RETURN_IF_ERROR(world.Agree(lines->Read(&sequences)));
    if (sequences.empty()) return scored;
    const auto scores = ScoreSequences(sequences, scored, nullptr, model);
    absl::Status status;
    for (size_t i = 0; i < sequences.size() && status.ok(); ++i) {
      status = write(ScoredLine(sequences[i], scores[i].logprobs));
    }
    RETURN_IF_ERROR(world.Agree(status));
    scored += static_cast<int64_t>(sequences.size());
  }
}

}  // namespace unipool
