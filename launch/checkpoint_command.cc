// `unipool checkpoint inspect | verify | diff | export`: what checkpoints hold, whether they are
// whole, where two differ, and their weights for other programs.
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "launch/checkpoint/export.h"
#include "launch/checkpoint/reader.h"
#include "launch/command_line.h"
#include "launch/commands.h"
#include "launch/config_fields.h"
#include "launch/exit_codes.h"
#include "runtime/status.h"

namespace unipool {
namespace {

using config::Manifest;
using Json = nlohmann::ordered_json;

const CommandSpec kSpec{
    .flags = {{"json", "", "inspect, diff: one JSON object"},
              {"dtype", "TYPE", "export: fp32 (default) or bf16"},
              {"output", "FOLDER", "export: where model.safetensors and config.json go"},
              {"help", "", "prints this"}},
    .arguments = {"inspect|verify|diff|export", "CHECKPOINT", "OTHER"}};

int64_t TotalBytes(const Manifest& manifest) {
  int64_t bytes = 0;
  for (const Manifest::File& file : manifest.files()) bytes += file.bytes();
  return bytes;
}

absl::Status Inspect(const Checkpoint& checkpoint, bool as_json) {
  const Manifest& manifest = checkpoint.manifest();
  Json files = Json::array();
  for (const Manifest::File& file : manifest.files()) {
    files.push_back(
        {{"name", file.name()}, {"bytes", file.bytes()}, {"xxh3_128", file.xxh3_128()}});
  }
  int64_t elements[3] = {0, 0, 0};
  for (const Manifest::StoredTensor& tensor : manifest.tensors()) {
    elements[tensor.part()] += tensor.end() - tensor.begin();
  }
  if (as_json) {
    Json json = {{"folder", checkpoint.folder()},
                 {"format_version", manifest.format_version()},
                 {"step", manifest.step()},
                 {"ranks", manifest.ranks()},
                 {"expert_ranks", manifest.expert_ranks()},
                 {"seed", manifest.random().seed()},
                 {"router_c", manifest.router_c()},
                 {"weights", elements[Manifest::WEIGHT]},
                 {"trained", elements[Manifest::EXP_AVG]},
                 {"tensors", manifest.tensors_size()},
                 {"bytes", TotalBytes(manifest)},
                 {"files", files},
                 {"config", manifest.run().DebugString()}};
    std::puts(json.dump().c_str());
    return absl::OkStatus();
  }
  absl::PrintF("%s: after step %d, by %d ranks (%d a copy of the experts), seed %d\n",
               checkpoint.folder(), manifest.step(), manifest.ranks(), manifest.expert_ranks(),
               manifest.random().seed());
  absl::PrintF("%d weights in %d tensors, %.1f MB\n", elements[Manifest::WEIGHT],
               manifest.tensors_size(), static_cast<double>(TotalBytes(manifest)) / 1e6);
  for (const Json& file : files) {
    absl::PrintF("  %-32s %14d  %s\n", file["name"].get<std::string>(),
                 file["bytes"].get<int64_t>(), file["xxh3_128"].get<std::string>());
  }
  absl::PrintF("config:\n%s", manifest.run().DebugString());
  return absl::OkStatus();
}

absl::Status Verify(const Checkpoint& checkpoint) {
  const absl::Time start = absl::Now();
  RETURN_IF_ERROR(checkpoint.Verify());
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  const auto bytes = static_cast<double>(TotalBytes(checkpoint.manifest()));
  absl::PrintF("%s: good: %d files, %.1f MB, %.2f GB/s\n", checkpoint.folder(),
               checkpoint.manifest().files_size(), bytes / 1e6, bytes / 1e9 / seconds);
  return absl::OkStatus();
}

using Parts = std::set<std::pair<std::string, Manifest::Part>>;

Parts PartsOf(const Checkpoint& checkpoint) {
  Parts parts;
  for (const Manifest::StoredTensor& tensor : checkpoint.manifest().tensors()) {
    parts.emplace(tensor.parameter(), tensor.part());
  }
  return parts;
}

// "" where they are the same.
absl::StatusOr<std::string> Difference(const Checkpoint& a, const Checkpoint& b,
                                       const std::string& parameter, Manifest::Part part) {
  ASSIGN_OR_RETURN(const std::vector<float> left, a.ReadFlat(parameter, part));
  ASSIGN_OR_RETURN(const std::vector<float> right, b.ReadFlat(parameter, part));
  if (left.size() != right.size()) {
    return absl::StrCat(left.size(), " elements against ", right.size());
  }
  int64_t differing = 0;
  double largest = 0;
  for (size_t i = 0; i < left.size(); ++i) {
    if (left[i] == right[i]) continue;
    ++differing;
    largest = std::max(largest, std::abs(static_cast<double>(left[i]) - right[i]));
  }
  if (differing == 0) return std::string();
  return absl::StrFormat("%d of %d elements, by %.3g at most", differing, left.size(), largest);
}

absl::StatusOr<Json> DiffJson(const Checkpoint& a, const Checkpoint& b) {
  Json config = Json::object(), tensors = Json::object();
  for (const std::string& path : FieldPaths(a.manifest().run())) {
    const std::string left = TextAt(a.manifest().run(), path);
    const std::string right = TextAt(b.manifest().run(), path);
    if (left != right) config[path] = {left, right};
  }
  const Parts left = PartsOf(a), right = PartsOf(b);
  Parts all = left;
  all.insert(right.begin(), right.end());
  for (const auto& [parameter, part] : all) {
    const std::string name = absl::StrCat(parameter, " ", Manifest::Part_Name(part));
    if (left.count({parameter, part}) == 0 || right.count({parameter, part}) == 0) {
      tensors[name] =
          absl::StrCat("only in the ", left.count({parameter, part}) ? "first" : "second");
      continue;
    }
    ASSIGN_OR_RETURN(const std::string difference, Difference(a, b, parameter, part));
    if (!difference.empty()) tensors[name] = difference;
  }
  return Json{{"steps", {a.step(), b.step()}},
              {"same", config.empty() && tensors.empty() && a.step() == b.step()},
              {"config", config},
              {"tensors", tensors}};
}

absl::Status Diff(const Checkpoint& a, const std::string& other, bool as_json) {
  ASSIGN_OR_RETURN(const Checkpoint b, OpenCheckpoint(other));
  ASSIGN_OR_RETURN(const Json json, DiffJson(a, b));
  if (as_json) {
    std::puts(json.dump().c_str());
    return absl::OkStatus();
  }
  absl::PrintF("steps %d and %d: %s\n", a.step(), b.step(),
               json["same"].get<bool>() ? "the same" : "different");
  for (const auto& [path, values] : json["config"].items()) {
    absl::PrintF("  %s: %s, %s\n", path, values[0].get<std::string>(),
                 values[1].get<std::string>());
  }
  for (const auto& [name, difference] : json["tensors"].items()) {
    absl::PrintF("  %s: %s\n", name, difference.get<std::string>());
  }
  return absl::OkStatus();
}

absl::Status Export(const Checkpoint& checkpoint, const CommandLine& line) {
  const std::string dtype = line.Value("dtype", "fp32"), output = line.Value("output", "");
  if (dtype != "fp32" && dtype != "bf16") {
    return absl::InvalidArgumentError(absl::StrCat("--dtype=", dtype, ": expected fp32 or bf16"));
  }
  if (output.empty()) return absl::InvalidArgumentError("--output: expected a folder");
  RETURN_IF_ERROR(
      ExportCheckpoint(checkpoint, dtype == "fp32" ? DType::kFloat32 : DType::kBFloat16, output));
  absl::PrintF("%s/model.safetensors, %s/config.json\n", output, output);
  return absl::OkStatus();
}

absl::Status RunCommand(const CommandLine& line) {
  const std::vector<std::string>& words = line.arguments();
  ASSIGN_OR_RETURN(const Checkpoint checkpoint, OpenCheckpoint(words[1]));
  if (words[0] == "inspect") return Inspect(checkpoint, line.Has("json"));
  if (words[0] == "verify") return Verify(checkpoint);
  if (words[0] == "diff") return Diff(checkpoint, words[2], line.Has("json"));
  return Export(checkpoint, line);
}

bool IsComplete(const std::vector<std::string>& words) {
  const std::map<std::string, size_t> counts = {
      {"inspect", 2}, {"verify", 2}, {"diff", 3}, {"export", 2}};
  if (words.empty()) return false;
  const auto found = counts.find(words[0]);
  return found != counts.end() && words.size() == found->second;
}

}  // namespace

int CheckpointCommand(const std::vector<std::string>& args) {
  const absl::StatusOr<CommandLine> line = CommandLine::Parse(args, kSpec);
  if (!line.ok()) return Report(line.status());
  if (line->Has("help") || !IsComplete(line->arguments())) {
    const bool asked = line->Has("help");
    std::fputs(UsageText("unipool checkpoint", kSpec).c_str(), asked ? stdout : stderr);
    return asked ? kExitDone : kExitBadInput;
  }
  return Report(RunCommand(*line));
}

}  // namespace unipool
