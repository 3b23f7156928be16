// `unipool data ...`: makes token files from text, shows them, and measures the baseline on them.
#include <algorithm>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "data/indexed_dataset.h"
#include "data/prepare/bigram.h"
#include "data/prepare/data_prepare.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/data_views.h"
#include "launch/commands/sub_commands.h"
#include "runtime/status.h"

namespace unipool {
namespace {

const CommandSpec kPrepare{
    .flags = {
        {"input", "FILE",
         "text or JSON lines, .gz or .zst as well, or a folder of such; hidden files in it are "
         "left out",
         true},
        {"output", "PREFIX", "of PREFIX.bin and PREFIX.idx"},
        {"tokenizer", "byte|gpt2", "gpt2: byte-level BPE (default byte)"},
        {"vocab", "FILE", "vocab.json of --tokenizer gpt2"},
        {"merges", "FILE", "merges.txt of --tokenizer gpt2"},
        {"workers", "N", "threads that tokenize; any N writes the same bytes (default: all cores)"},
        {"format", "auto|text|jsonl", "auto: .jsonl and .json are JSON lines, all others text"},
        {"text-field", "NAME", "of a JSON line's document (default text)"},
        {"skip-bad", "", "counts malformed lines, and files that are not UTF-8, and goes on"},
        {"overwrite", "", "replaces the output"},
        {"help", "", "prints this"}}};
const CommandSpec kBigram{
    .flags = {{"split", "WEIGHTS", "of the training, validation and test parts (as in 90,5,5)"},
              {"vocab", "N", "ids are below it (default 257)"},
              {"tokens", "N", "predicts only the first N of the validation part"},
              {"help", "", "prints this"}},
    .arguments = {"PREFIX"}};

absl::StatusOr<TextFormat> ParseFormat(const std::string& format) {
  if (format == "auto") return TextFormat::kAuto;
  if (format == "text") return TextFormat::kPlain;
  if (format == "jsonl") return TextFormat::kJsonLines;
  return absl::InvalidArgumentError(
      absl::StrCat("--format ", format, ": expected auto, text or jsonl"));
}

absl::Status ParseTokenizer(const CommandLine& line, PrepareOptions* options) {
  const std::string name = line.Value("tokenizer", "byte");
  if (name != "byte" && name != "gpt2") {
    return absl::InvalidArgumentError(
        absl::StrCat("--tokenizer ", name, ": expected byte or gpt2"));
  }
  for (const char* flag : {"vocab", "merges"}) {
    if (!line.Value(flag, "").empty() == (name == "gpt2")) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("--", flag,
                     line.Has(flag) ? ": expected with --tokenizer gpt2 only"
                                    : " is missing: expected a file for --tokenizer gpt2"));
  }
  options->vocab_file = line.Value("vocab", "");
  options->merges_file = line.Value("merges", "");
  return absl::OkStatus();
}

absl::Status Prepare(const CommandLine& line) {
  PrepareOptions options;
  options.inputs = line.Values("input");
  options.output = line.Value("output", "");
  options.text_field = line.Value("text-field", "text");
  options.skip_bad = line.Has("skip-bad");
  options.overwrite = line.Has("overwrite");
  ASSIGN_OR_RETURN(options.format, ParseFormat(line.Value("format", "auto")));
  RETURN_IF_ERROR(ParseTokenizer(line, &options));
  const int64_t cores = std::max(1U, std::thread::hardware_concurrency());
  ASSIGN_OR_RETURN(const int64_t workers, line.Integer("workers", cores, 1));
  options.workers = static_cast<int>(std::min<int64_t>(workers, INT_MAX));
  if (options.inputs.empty()) return absl::InvalidArgumentError("--input is missing");
  if (options.output.empty()) return absl::InvalidArgumentError("--output is missing");
  PrepareReport report;
  RETURN_IF_ERROR(PrepareData(options, &report));
  absl::PrintF(
      "%s.bin, .idx: %d documents, %d tokens from %d files, %.1f MB in %.1f s (%.1f MB/s)\n",
      options.output, report.documents, report.tokens, report.files, report.input_bytes / 1e6,
      report.seconds, report.input_bytes / 1e6 / std::max(report.seconds, 1e-9));
  if (report.bad_lines > 0) {
    absl::PrintF("%d malformed lines or files skipped, the first: %s\n", report.bad_lines,
                 report.first_bad_line);
  }
  return absl::OkStatus();
}

absl::Status Bigram(const CommandLine& line) {
  if (!line.Has("split")) return absl::InvalidArgumentError("--split is missing");
  ASSIGN_OR_RETURN(const int64_t vocab, line.Integer("vocab", 257, 1));
  ASSIGN_OR_RETURN(const int64_t tokens, line.Integer("tokens", 0, 1));
  ASSIGN_OR_RETURN(const auto dataset, IndexedDataset::Open(line.arguments()[0]));
  ASSIGN_OR_RETURN(const BigramReport report,
                   BigramLoss(*dataset, line.Value("split", ""), vocab, tokens));
  absl::PrintF("bigram validation loss %.4f nats per token (%d training tokens, %d predicted)\n",
               report.loss, report.train_tokens, report.validation_tokens);
  return absl::OkStatus();
}

SubCommand Make(const char* name, const char* help, const CommandSpec& spec,
                absl::Status (*run)(const CommandLine& line)) {
  return {.name = name, .help = help, .spec = spec, .run = [run](const CommandLine& line) {
            return Report(run(line));
          }};
}

}  // namespace

int DataCommand(const std::vector<std::string>& args) {
  return RunSubCommand(
      "data",
      {Make("prepare", "token files from text", kPrepare, &Prepare),
       Make("inspect", "what token files hold", kInspectSpec, &InspectData),
       Make("batch", "the samples of a run's steps, a JSON line each", kBatchSpec, &PrintBatches),
       Make("bigram", "the validation loss of a bigram model", kBigram, &Bigram)},
      args);
}

}  // namespace unipool
