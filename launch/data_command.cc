#include "launch/data_command.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "data/indexed_dataset.h"
#include "data/tokenizer.h"
#include "launch/bigram.h"
#include "launch/data_prepare.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr char kUsage[] =
    R"(unipool data prepare --input F [--input F ...] --output PREFIX
                     [--format auto|text|jsonl] [--text-field text] [--skip-bad] [--overwrite]
    Tokenizes files, and all files below folders, as bytes into PREFIX.bin and PREFIX.idx.
    jsonl: one JSON object a line, its text field a document; text: a file is a document;
    auto (default): .jsonl and .json are jsonl, all others text.
    --skip-bad counts malformed lines instead of stopping; --overwrite replaces the output.
unipool data inspect PREFIX
    Documents, tokens, type of ids, lengths and the beginning of the first document.
unipool data bigram PREFIX --split 90,5,5 [--vocab 257]
    Validation loss of a bigram model (add-one smoothing), in nats per token.
)";
constexpr int kBadData = 1;
constexpr int kBadCommandLine = 2;
constexpr int64_t kShownTokens = 200;

// A command line taken apart: flags with values (each may be given several times), flags without,
// and the rest.
struct CommandLine {
  std::vector<std::pair<std::string, std::string>> values;
  std::set<std::string> switches;
  std::vector<std::string> rest;

  std::string Value(const std::string& flag, const std::string& otherwise) const {
    std::string found = otherwise;
    for (const auto& [name, value] : values) {
      if (name == flag) found = value;
    }
    return found;
  }
};

// Takes `--flag value` and `--flag=value`.
absl::StatusOr<CommandLine> ParseArgs(absl::Span<char* const> args,
                                      const std::set<std::string>& with_value,
                                      const std::set<std::string>& without_value) {
  CommandLine line;
  for (size_t i = 0; i < args.size(); ++i) {
    const std::string arg = args[i];
    if (!absl::StartsWith(arg, "--")) {
      line.rest.push_back(arg);
      continue;
    }
    const size_t equals = arg.find('=');
    const std::string name = arg.substr(0, equals);
    if (with_value.count(name) > 0) {
      const bool inside = equals != std::string::npos;
      if (!inside && ++i == args.size()) {
        return absl::InvalidArgumentError(absl::StrCat(name, " needs a value"));
      }
      line.values.emplace_back(name, inside ? arg.substr(equals + 1) : args[i]);
    } else if (without_value.count(arg) > 0) {
      line.switches.insert(arg);
    } else {
      return absl::InvalidArgumentError(absl::StrCat("unknown flag ", arg));
    }
  }
  return line;
}

absl::StatusOr<std::string> OnePrefix(const CommandLine& line) {
  if (line.rest.size() == 1) return line.rest[0];
  return absl::InvalidArgumentError(
      absl::StrCat("expected one PREFIX, got \"", absl::StrJoin(line.rest, " "), "\""));
}

int Fail(int exit_status, const absl::Status& status) {
  std::cerr << "unipool data: " << status.message()
            << (exit_status == kBadCommandLine ? " (unipool data --help)\n" : "\n");
  return exit_status;
}

absl::StatusOr<PrepareOptions> ParsePrepare(absl::Span<char* const> args) {
  ASSIGN_OR_RETURN(const CommandLine line,
                   ParseArgs(args, {"--input", "--output", "--format", "--text-field"},
                             {"--skip-bad", "--overwrite"}));
  if (!line.rest.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("unexpected \"", line.rest[0], "\"; files go after --input"));
  }
  PrepareOptions options;
  options.output = line.Value("--output", "");
  options.text_field = line.Value("--text-field", "text");
  options.skip_bad = line.switches.count("--skip-bad") > 0;
  options.overwrite = line.switches.count("--overwrite") > 0;
  for (const auto& [name, value] : line.values) {
    if (name == "--input") options.inputs.push_back(value);
  }
  if (options.inputs.empty()) return absl::InvalidArgumentError("--input is missing");
  if (options.output.empty()) return absl::InvalidArgumentError("--output is missing");
  const std::string format = line.Value("--format", "auto");
  if (format == "text") {
    options.format = TextFormat::kPlain;
  } else if (format == "jsonl") {
    options.format = TextFormat::kJsonLines;
  } else if (format != "auto") {
    return absl::InvalidArgumentError(
        absl::StrCat("--format ", format, ": expected auto, text or jsonl"));
  }
  return options;
}

int Prepare(absl::Span<char* const> args) {
  const auto options = ParsePrepare(args);
  if (!options.ok()) return Fail(kBadCommandLine, options.status());
  PrepareReport report;
  const absl::Status status = PrepareData(*options, &report);
  if (!status.ok()) return Fail(kBadData, status);
  std::cout << absl::StreamFormat(
      "%s.bin, .idx: %d documents, %d tokens from %d files, %.1f MB in %.1f s (%.1f MB/s)\n",
      options->output, report.documents, report.tokens, report.files, report.input_bytes / 1e6,
      report.seconds, report.input_bytes / 1e6 / std::max(report.seconds, 1e-9));
  if (report.bad_lines > 0) {
    std::cout << absl::StreamFormat("%d malformed lines skipped, the first: %s\n", report.bad_lines,
                                    report.first_bad_line);
  }
  return 0;
}

// The beginning of the first document that is not empty: as text, or as ids of another vocabulary.
std::string Beginning(const IndexedDataset& dataset) {
  int64_t begin = 0;
  int64_t end = 0;
  for (int64_t i = 0; i < dataset.num_sequences() && end == begin; ++i) {
    begin = dataset.SequenceStart(i);
    end = dataset.SequenceStart(i + 1);
  }
  std::vector<int32_t> ids(std::min(end - begin, kShownTokens));
  dataset.Read(begin, absl::MakeSpan(ids));
  const auto tokenizer = CreateByteTokenizer();
  const bool bytes = std::all_of(ids.begin(), ids.end(),
                                 [&](int32_t id) { return id >= 0 && id < tokenizer->vocab(); });
  return bytes ? absl::StrCat("\"", absl::Utf8SafeCEscape(tokenizer->Decode(ids)), "\"")
               : absl::StrCat("ids ", absl::StrJoin(ids, " "));
}

std::string LengthQuantiles(const IndexedDataset& dataset) {
  std::vector<int64_t> lengths(dataset.num_sequences());
  for (int64_t i = 0; i < dataset.num_sequences(); ++i) {
    lengths[i] = dataset.SequenceStart(i + 1) - dataset.SequenceStart(i);
  }
  if (lengths.empty()) return "none";
  std::sort(lengths.begin(), lengths.end());
  const auto quantile = [&lengths](int percent) {
    return lengths[(lengths.size() - 1) * percent / 100];
  };
  return absl::StrFormat("least %d, 10 %% %d, median %d, 90 %% %d, most %d", quantile(0),
                         quantile(10), quantile(50), quantile(90), quantile(100));
}

int Inspect(absl::Span<char* const> args) {
  const auto line = ParseArgs(args, {}, {});
  if (!line.ok()) return Fail(kBadCommandLine, line.status());
  const auto prefix = OnePrefix(*line);
  if (!prefix.ok()) return Fail(kBadCommandLine, prefix.status());
  const auto dataset = IndexedDataset::Open(*prefix);
  if (!dataset.ok()) return Fail(kBadData, dataset.status());
  const char* type = (*dataset)->token_bytes() == 1   ? "uint8"
                     : (*dataset)->token_bytes() == 2 ? "uint16"
                                                      : "int32";
  std::cout << absl::StreamFormat(
      "%s\n  documents  %d (%d sequences)\n  tokens     %d\n  ids        %s, %d bytes\n"
      "  lengths    %s\n  beginning  %s\n",
      *prefix, (*dataset)->num_documents(), (*dataset)->num_sequences(), (*dataset)->num_tokens(),
      type, (*dataset)->num_tokens() * (*dataset)->token_bytes(), LengthQuantiles(**dataset),
      Beginning(**dataset));
  return 0;
}

struct BigramOptions {
  std::string prefix;
  std::string split;
  int64_t vocab;
};

absl::StatusOr<BigramOptions> ParseBigram(absl::Span<char* const> args) {
  ASSIGN_OR_RETURN(const CommandLine line, ParseArgs(args, {"--split", "--vocab"}, {}));
  BigramOptions options = {};
  options.split = line.Value("--split", "");
  ASSIGN_OR_RETURN(options.prefix, OnePrefix(line));
  if (options.split.empty()) return absl::InvalidArgumentError("--split is missing");
  const std::string vocab = line.Value("--vocab", "257");
  if (!absl::SimpleAtoi(vocab, &options.vocab)) {
    return absl::InvalidArgumentError(absl::StrCat("--vocab ", vocab, ": expected a number"));
  }
  return options;
}

int Bigram(absl::Span<char* const> args) {
  const auto options = ParseBigram(args);
  if (!options.ok()) return Fail(kBadCommandLine, options.status());
  const auto dataset = IndexedDataset::Open(options->prefix);
  if (!dataset.ok()) return Fail(kBadData, dataset.status());
  const auto report = BigramLoss(**dataset, options->split, options->vocab);
  if (!report.ok()) return Fail(kBadData, report.status());
  std::cout << absl::StreamFormat(
      "bigram validation loss %.4f nats per token (%d training tokens, %d predicted)\n",
      report->loss, report->train_tokens, report->validation_tokens);
  return 0;
}

}  // namespace

int DataCommand(absl::Span<char* const> args) {
  const auto is_help = [](const std::string& arg) { return arg == "--help" || arg == "-h"; };
  if (std::any_of(args.begin(), args.end(), is_help)) {
    std::cout << kUsage;
    return 0;
  }
  const std::string command = args.empty() ? "" : args[0];
  if (command == "prepare") return Prepare(args.subspan(1));
  if (command == "inspect") return Inspect(args.subspan(1));
  if (command == "bigram") return Bigram(args.subspan(1));
  return Fail(kBadCommandLine, absl::InvalidArgumentError(absl::StrCat(
                                   "expected prepare, inspect or bigram, got \"", command, "\"")));
}

}  // namespace unipool
