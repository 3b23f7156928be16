// `unipool data ...`: makes token files from text, describes them, prints the batches of a run, and
// computes the loss of a bigram model on them.
#include <glob.h>
#include <glog/logging.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "data/indexed_dataset.h"
#include "data/prepare/bigram.h"
#include "data/prepare/data_prepare.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/data_views.h"
#include "launch/commands/run_flags.h"
#include "runtime/quote.h"
#include "runtime/status.h"

namespace unipool {
namespace {

CommandSpec PrepareSpec() {
  return {
      .flags = {
          {"input", "FILE",
           "text or JSON lines, plain, gzip or zstd, a pipe, a pattern in quotes such as "
           "'shards/*.jsonl*', or a folder of such files with its links; hidden files, readmes, "
           "checksums and token files of a folder are skipped",
           true},
          {"output", "PREFIX", "writes PREFIX.bin and PREFIX.idx (required)"},
          {"tokenizer", "byte|gpt2", "gpt2 is byte-level BPE (default byte)"},
          {"vocab", "FILE", "vocab.json for --tokenizer gpt2"},
          {"merges", "FILE", "merges.txt for --tokenizer gpt2"},
          {"workers", "N",
           "threads that tokenize; any number writes the same bytes (default: all cores)"},
          {"format", "auto|text|jsonl",
           "format of the input; auto reads .jsonl, .ndjson, .jsonlines, .jl and .json in any case "
           "as JSON lines and all others as text, unless they begin like JSON (default auto)"},
          {"text-field", "NAME", "field of a JSON line that holds the document (default text)"},
          {"skip-bad", "",
           "skips and counts malformed lines and files that are not UTF-8, instead of failing"},
          {"overwrite", "", "replaces existing output files"},
          HelpFlag()}};
}

CommandSpec BigramSpec() {
  return {.flags = {{"split", "WEIGHTS",
                     "weights of the training, validation and test parts, as in 90,5,5 (required)"},
                    {"vocab", "N", "vocabulary size: all ids are below it (default 257)"},
                    {"tokens", "N",
                     "predicts only the first N tokens of the validation part (default: all)"},
                    HelpFlag()},
          .arguments = {"PREFIX"}};
}

absl::StatusOr<TextFormat> ParseFormat(const std::string& format) {
  if (format == "auto") return TextFormat::kAuto;
  if (format == "text") return TextFormat::kPlain;
  if (format == "jsonl") return TextFormat::kJsonLines;
  return absl::InvalidArgumentError(
      absl::StrCat("--format=", format, ": expected auto, text or jsonl"));
}

absl::Status ParseTokenizer(const CommandLine& line, PrepareOptions* options) {
  const std::string name = line.Value("tokenizer", "byte");
  if (name != "byte" && name != "gpt2") {
    return absl::InvalidArgumentError(
        absl::StrCat("--tokenizer=", name, ": expected byte or gpt2"));
  }
  for (const char* flag : {"vocab", "merges"}) {
    if (!line.Value(flag, "").empty() == (name == "gpt2")) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag,
                     line.Has(flag) ? " is for --tokenizer gpt2; the byte tokenizer has no files"
                                    : " is missing; --tokenizer gpt2 needs this file"));
  }
  options->vocab_file = line.Value("vocab", "");
  options->merges_file = line.Value("merges", "");
  return absl::OkStatus();
}

// What was read otherwise than a user may expect, a line each.
void PrintRemarks(const PrepareReport& report) {
  constexpr size_t kShown = 3;
  const std::vector<std::string>& skipped = report.skipped;
  if (!skipped.empty()) {
    const std::vector<std::string> shown(
        skipped.begin(), skipped.begin() + static_cast<int64_t>(std::min(kShown, skipped.size())));
    const size_t others = skipped.size() - shown.size();
    absl::PrintF("skipped in folders: %s%s; name a file with --input to read it\n",
                 OneLine(absl::StrJoin(shown, ", ")),
                 others == 0 ? "" : absl::StrCat(" and ", others, " more"));
  }
  if (report.blank_lines > 0) absl::PrintF("%d blank lines passed over\n", report.blank_lines);
  if (report.special_lines > 0) {
    absl::PrintF("%d lines have NaN, Infinity or a number beyond 1.8e308 in another field\n",
                 report.special_lines);
  }
  if (report.bad_lines > 0) {
    absl::PrintF("%d malformed lines or files skipped; the first is %s\n", report.bad_lines,
                 OneLine(report.first_bad_line));
  }
}

// The files and folders that a pattern of the shell matches, in the order of their names. An input
// that exists is no pattern.
absl::StatusOr<std::vector<std::string>> ExpandPattern(const std::string& input) {
  const bool is_pattern = input.find_first_of("*?[") != std::string::npos;
  if (!is_pattern || access(input.c_str(), F_OK) == 0) return std::vector<std::string>{input};
  glob_t found = {};
  const int result = glob(input.c_str(), 0, nullptr, &found);
  std::vector<std::string> paths(found.gl_pathv, found.gl_pathv + found.gl_pathc);
  globfree(&found);
  if (result == 0) return paths;
  return absl::NotFoundError(
      absl::StrCat("--input=", CutInput(input), ": the pattern matches no file"));
}

absl::Status Prepare(const CommandLine& line) {
  PrepareOptions options;
  for (const std::string& input : line.Values("input")) {
    ASSIGN_OR_RETURN(const std::vector<std::string> paths, ExpandPattern(input));
    options.inputs.insert(options.inputs.end(), paths.begin(), paths.end());
  }
  options.output = line.Value("output", "");
  options.text_field = line.Value("text-field", "text");
  options.skip_bad = line.Has("skip-bad");
  options.overwrite = line.Has("overwrite");
  ASSIGN_OR_RETURN(options.format, ParseFormat(line.Value("format", "auto")));
  RETURN_IF_ERROR(ParseTokenizer(line, &options));
  const int64_t cores = std::max(1U, std::thread::hardware_concurrency());
  ASSIGN_OR_RETURN(const int64_t workers, line.Integer("workers", cores, 1));
  options.workers = static_cast<int>(std::min<int64_t>(workers, INT_MAX));
  if (options.inputs.empty())
    return absl::InvalidArgumentError("data prepare: --input is missing; give --input FILE");
  if (options.output.empty())
    return absl::InvalidArgumentError("data prepare: --output is missing; give --output PREFIX");
  PrepareReport report;
  RETURN_IF_ERROR(PrepareData(options, &report));
  absl::PrintF(
      "%s.bin, .idx: %d documents, %d tokens from %d files, %.1f MB in %.1f s (%.1f MB/s)\n",
      options.output, report.documents, report.tokens, report.files, report.input_bytes / 1e6,
      report.seconds, report.input_bytes / 1e6 / std::max(report.seconds, 1e-9));
  PrintRemarks(report);
  LOG_IF(WARNING, report.tokens == 0)
      << options.output << ": holds no tokens: all documents are empty";
  return absl::OkStatus();
}

absl::Status Bigram(const CommandLine& line) {
  if (!line.Has("split"))
    return absl::InvalidArgumentError(
        "data bigram: --split is missing; give the weights of the parts, as in --split 90,5,5");
  ASSIGN_OR_RETURN(const int64_t vocab, line.Integer("vocab", 257, 1));
  ASSIGN_OR_RETURN(const int64_t tokens, line.Integer("tokens", 0, 1));
  ASSIGN_OR_RETURN(const auto dataset, IndexedDataset::Open(line.arguments()[0]));
  ASSIGN_OR_RETURN(const BigramReport report,
                   BigramLoss(*dataset, line.Value("split", ""), vocab, tokens));
  absl::PrintF("bigram validation loss %.4f nats per token (%d training tokens, %d predicted)\n",
               report.loss, report.train_tokens, report.validation_tokens);
  return absl::OkStatus();
}

// A sub-command that prints its result or reports its status.
Command Sub(const char* name, const char* summary, CommandSpec spec,
            absl::Status (*run)(const CommandLine& line)) {
  return {.name = name,
          .summary = summary,
          .spec = std::move(spec),
          .run = [run](const CommandLine& line) { return Report(run(line)); }};
}

}  // namespace

Command DataCommand() {
  return {.name = "data",
          .summary = "makes token files from text and examines them",
          .subs = {
              Sub("prepare", "writes token files (PREFIX.bin, PREFIX.idx) from text", PrepareSpec(),
                  &Prepare),
              Sub("inspect", "prints the sizes, lengths and first tokens of token files",
                  InspectSpec(), &InspectData),
              Sub("batch", "prints the samples of a run's steps, one JSON line for each step",
                  BatchSpec(), &PrintBatches),
              Sub("bigram", "prints the validation loss of a bigram model, a baseline for training",
                  BigramSpec(), &Bigram)}};
}

}  // namespace unipool
