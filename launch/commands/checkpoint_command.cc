// `unipool checkpoint inspect | verify | diff | export`: prints a checkpoint's manifest, checks its
// hashes, compares two checkpoints, and writes weights for other programs.
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/checkpoint.pb.h"
#include "launch/checkpoint/difference.h"
#include "launch/checkpoint/export.h"
#include "launch/checkpoint/reader.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/run_flags.h"
#include "launch/world/exit_codes.h"
#include "runtime/clock.h"
#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/status.h"

namespace unipool {
namespace {

using config::Manifest;

int64_t TotalBytes(const Manifest& manifest) {
  int64_t bytes = 0;
  for (const Manifest::File& file : manifest.files()) bytes += file.bytes();
  return bytes;
}

absl::Status Inspect(const CommandLine& line) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(line.arguments()[0]));
  const Manifest& manifest = checkpoint.manifest();
  Json files = Json::Array();
  for (const Manifest::File& file : manifest.files()) {
    files.Append({{"name", file.name()}, {"bytes", file.bytes()}, {"xxh3_128", file.xxh3_128()}});
  }
  int64_t elements[3] = {0, 0, 0};
  for (const Manifest::StoredTensor& tensor : manifest.tensors()) {
    elements[tensor.part()] += tensor.end() - tensor.begin();
  }
  Json changes = Json::Array();
  for (const Manifest::Change& change : manifest.changes()) {
    changes.Append({{"step", change.step()},
                    {"field", change.field()},
                    {"former", change.former()},
                    {"value", change.value()}});
  }
  if (line.Has("json")) {
    Json json = {{"folder", checkpoint.folder()},
                 {"format_version", manifest.format_version()},
                 {"step", manifest.step()},
                 {"program", manifest.program()},
                 {"ranks", manifest.ranks()},
                 {"expert_ranks", manifest.expert_ranks()},
                 {"seed", manifest.random().seed()},
                 {"router_c", manifest.router_c()},
                 {"weights", elements[Manifest::WEIGHT]},
                 {"trained", elements[Manifest::EXP_AVG]},
                 {"tensors", manifest.tensors_size()},
                 {"bytes", TotalBytes(manifest)},
                 {"files", files},
                 {"changes", changes},
                 {"config", manifest.run().DebugString()}};
    std::puts(json.Dump().c_str());
    return absl::OkStatus();
  }
  absl::PrintF("%s: step %d, saved by %d ranks (expert parallelism over %d), seed %d\n",
               checkpoint.folder(), manifest.step(), manifest.ranks(), manifest.expert_ranks(),
               manifest.random().seed());
  if (manifest.has_program()) absl::PrintF("by unipool %s\n", manifest.program());
  absl::PrintF("%d weights in %d tensors, %.1f MB\n", elements[Manifest::WEIGHT],
               manifest.tensors_size(), static_cast<double>(TotalBytes(manifest)) / 1e6);
  for (const Manifest::File& file : manifest.files()) {
    absl::PrintF("  %-32s %14d  %s\n", file.name(), file.bytes(), file.xxh3_128());
  }
  for (const Manifest::Change& change : manifest.changes()) {
    absl::PrintF("from step %d on, %s is %s, before %s\n", change.step() + 1, change.field(),
                 change.value(), change.former());
  }
  absl::PrintF("config:\n%s", manifest.run().DebugString());
  return absl::OkStatus();
}

absl::Status Verify(const CommandLine& line) {
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(line.arguments()[0]));
  const absl::Time start = SteadyNow();
  RETURN_IF_ERROR(checkpoint.Verify());
  const double seconds = absl::ToDoubleSeconds(SteadyNow() - start);
  const auto bytes = static_cast<double>(TotalBytes(checkpoint.manifest()));
  absl::PrintF("%s: good: %d files, %.1f MB, %.2f GB/s\n", checkpoint.folder(),
               checkpoint.manifest().files_size(), bytes / 1e6, bytes / 1e9 / seconds);
  return absl::OkStatus();
}

Json ValuesJson(const std::map<std::string, Values>& differences) {
  Json json = Json::Object();
  for (const auto& [name, values] : differences) {
    json[name] = std::vector<std::string>{values.first, values.second};
  }
  return json;
}

void Print(const Checkpoint& a, const Checkpoint& b, const CheckpointDifference& difference) {
  absl::PrintF("steps %d and %d: %s\n", a.step(), b.step(),
               difference.empty() ? "the same" : "different");
  for (const auto* values : {&difference.config, &difference.state}) {
    for (const auto& [name, both] : *values) {
      absl::PrintF("  %s: %s, %s\n", name, both.first, both.second);
    }
  }
  for (const auto& [name, text] : difference.tensors) absl::PrintF("  %s: %s\n", name, text);
  if (difference.largest_at.empty()) return;
  absl::PrintF("%d tensors differ; largest difference %.3g (%.3g relative) at %s\n",
               difference.tensors.size(), difference.largest, difference.largest_relative,
               difference.largest_at);
}

// The value of --tolerance.
absl::StatusOr<double> Tolerance(const CommandLine& line) {
  const std::string text = line.Value("tolerance", "0");
  double tolerance = 0;
  if (absl::SimpleAtod(text, &tolerance) && tolerance >= 0) return tolerance;
  return absl::InvalidArgumentError(
      absl::StrCat("--tolerance=", text, ": expected a number of at least 0"));
}

// Prints the differences of two checkpoints; true if there are none.
absl::StatusOr<bool> Diff(const CommandLine& line) {
  ASSIGN_OR_RETURN(const double tolerance, Tolerance(line));
  ASSIGN_OR_RETURN(const Checkpoint a, OpenCheckpoint(line.arguments()[0]));
  ASSIGN_OR_RETURN(const Checkpoint b, OpenCheckpoint(line.arguments()[1]));
  ASSIGN_OR_RETURN(const CheckpointDifference difference, Compare(a, b, tolerance));
  if (line.Has("json")) {
    const Json json = {{"steps", std::vector<int64_t>{a.step(), b.step()}},
                       {"same", difference.empty()},
                       {"config", ValuesJson(difference.config)},
                       {"state", ValuesJson(difference.state)},
                       {"tensors", Json(difference.tensors)},
                       {"largest_at", difference.largest_at},
                       {"largest", difference.largest},
                       {"largest_relative", difference.largest_relative}};
    std::puts(json.Dump().c_str());
  } else {
    Print(a, b, difference);
  }
  return difference.empty();
}

// Exit codes follow diff(1): 0 if the checkpoints are the same, 1 if they differ, 2 on an error.
int DiffCommand(const CommandLine& line) {
  const absl::StatusOr<bool> same = Diff(line);
  if (same.ok()) return *same ? kExitDone : kExitFailure;
  Report(same.status());
  return kExitBadInput;
}

absl::Status Export(const CommandLine& line) {
  const std::string dtype = line.Value("dtype", "fp32"), output = line.Value("output", "");
  if (dtype != "fp32" && dtype != "bf16") {
    return absl::InvalidArgumentError(absl::StrCat("--dtype=", dtype, ": expected fp32 or bf16"));
  }
  if (output.empty())
    return absl::InvalidArgumentError(
        "checkpoint export: --output is missing; give --output FOLDER");
  for (const char* name : {"model.safetensors", "config.json"}) {
    const std::string path = absl::StrCat(output, "/", name);
    ASSIGN_OR_RETURN(const bool is_there, Exists(path));
    if (!is_there || line.Has("force")) continue;
    return absl::AlreadyExistsError(absl::StrCat(
        path, ": already exists; choose another --output, or give --force to replace it"));
  }
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(line.arguments()[0]));
  RETURN_IF_ERROR(
      ExportCheckpoint(checkpoint, dtype == "fp32" ? DType::kFloat32 : DType::kBFloat16, output));
  absl::PrintF("%s/model.safetensors, %s/config.json\n", output, output);
  return absl::OkStatus();
}

}  // namespace

Command CheckpointCommand() {
  const Flag json = {"json", "", "prints one JSON object instead of text"};
  return {
      .name = "checkpoint",
      .summary = "examines checkpoints, or exports their weights",
      .subs = {
          {.name = "inspect",
           .summary = "prints a checkpoint's step, ranks, files and config. CHECKPOINT is the "
                      "folder of a step, or a run folder, which stands for its newest checkpoint",
           .spec = {.flags = {json, HelpFlag()}, .arguments = {"CHECKPOINT"}},
           .run = [](const CommandLine& line) { return Report(Inspect(line)); }},
          {.name = "verify",
           .summary = "reads every byte of a checkpoint and compares all hashes with its manifest",
           .spec = {.flags = {HelpFlag()}, .arguments = {"CHECKPOINT"}},
           .run = [](const CommandLine& line) { return Report(Verify(line)); }},
          {.name = "diff",
           .summary =
               "compares weights, moments, step, data cursor, statistics and config (except "
               "run_dir) of two checkpoints. Exit status 0: the same, 1: different, 2: error",
           .spec = {.flags = {json,
                              {"tolerance", "X",
                               "elements of tensors that differ by at most X count as equal "
                               "(default 0: equal bits)"},
                              HelpFlag()},
                    .arguments = {"CHECKPOINT", "OTHER"}},
           .run = &DiffCommand},
          {.name = "export",
           .summary = "writes all weights into one safetensors file for other programs",
           .spec = {.flags = {{"dtype", "fp32|bf16",
                               "type of the weights; bf16 rounds to nearest even (default fp32)"},
                              {"output", "FOLDER",
                               "folder for model.safetensors and config.json (required)"},
                              {"force", "", "replaces existing files"},
                              HelpFlag()},
                    .arguments = {"CHECKPOINT"}},
           .run = [](const CommandLine& line) { return Report(Export(line)); }}}};
}

}  // namespace unipool
