#include "launch/commands/reports_json.h"

#include <cstdio>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/run.pb.h"
#include "launch/world/version.h"
#include "runtime/files.h"

namespace unipool {
namespace {

// Splits a flat array into rows of `width` values.
Json Rows(const std::vector<double>& values, int width) {
  Json rows = Json::Array();
  for (size_t begin = 0; begin < values.size(); begin += width) {
    rows.Append(std::vector<double>(values.begin() + begin, values.begin() + begin + width));
  }
  return rows;
}

// The frequencies of the experts of each layer's own pool.
Json FrequenciesJson(const RouteCounts& counts, const RoutingReport& report) {
  Json rows = Json::Array();
  for (int layer = 0; layer < counts.layers; ++layer) {
    const auto begin = report.frequencies.begin() + static_cast<int64_t>(layer) * counts.columns() +
                       counts.first_column(layer);
    rows.Append(std::vector<double>(begin, begin + counts.experts));
  }
  return rows;
}

void AddAccuracy(const std::string& name, const Accuracy& accuracy, Json* json) {
  (*json)[name] = accuracy.share;
  (*json)[name + "_standard_error"] = accuracy.standard_error;
}

Json TaskJson(const TaskReport& task) {
  Json json = {{"file", task.file}, {"questions", task.questions}};
  if (task.has_choices) {
    AddAccuracy("accuracy", task.accuracy, &json);
    AddAccuracy("normalized_accuracy", task.normalized, &json);
  }
  AddAccuracy("greedy_accuracy", task.greedy, &json);
  json["gold_loss"] = task.gold_loss;
  return json;
}

Json TopSetsJson(const TopSets& sets) {
  return {{"k", sets.k},
          {"union", sets.union_size},
          {"union_share", sets.union_share},
          {"saturation", sets.saturation},
          {"coverage_weighted", sets.weighted_coverage},
          {"coverage_mean", sets.mean_coverage},
          {"coverage_min", sets.least_coverage},
          {"coverage_median", sets.median_coverage},
          {"coverage_max", sets.max_coverage}};
}

Json MeansJson(const RandomizeReport& report, const std::vector<RandomizedLayer>& layers) {
  const RandomizeMeans means = MeanChange(report.baseline, layers);
  Json json = Json::Object();
  if (report.baseline.text.has_value()) json["loss"] = means.loss;
  json["tasks"] = Json::Array();
  for (size_t i = 0; i < means.tasks.size(); ++i) {
    const TaskReport& task = report.baseline.tasks[i];
    Json change = {{"file", task.file}};
    if (task.has_choices) change["accuracy"] = means.tasks[i].accuracy;
    if (task.has_choices) change["normalized_accuracy"] = means.tasks[i].normalized;
    change["greedy_accuracy"] = means.tasks[i].greedy;
    json["tasks"].Append(change);
  }
  return json;
}

Json LayersJson(const RandomizeReport& report, const std::vector<RandomizedLayer>& layers,
                bool names_experts) {
  Json json = Json::Array();
  for (const RandomizedLayer& layer : layers) {
    Json entry = {{"layer", layer.layer}};
    if (names_experts) entry["experts"] = layer.experts;
    entry.Update(MeasurementJson(layer.measured));
    json.Append(entry);
  }
  return {{"layers", json}, {"mean_change", MeansJson(report, layers)}};
}

const char* RouterName(const config::Run& run) {
  return config::Pool::Router_Name(run.pool().router()).c_str();
}

}  // namespace

Json OriginJson(const ModelOrigin& origin, const config::Run& run) {
  Json json = {{"program", VersionLine()},
               {"checkpoint", origin.checkpoint},
               {"step", origin.step},
               {"layers", run.model().layers()}};
  if (run.model().ffn_kind() == config::Model::DENSE) return json;
  json["pools"] = run.model().layers() / run.pool().layers_per_pool();
  json["experts"] = run.pool().experts();
  json["top_k"] = run.pool().top_k();
  json["router"] = RouterName(run);
  return json;
}

std::string VersionJsonText() {
  Json json = {{"version", kBuildInfo.version},      {"revision", kBuildInfo.revision},
               {"is_modified", kBuildInfo.is_dirty}, {"compiler", kBuildInfo.compiler},
               {"options", kBuildInfo.options},      {"libraries", Json::Object()}};
  for (const auto& [name, version] : LibraryVersions()) {
    if (version.built.empty()) continue;
    json["libraries"][name] = Json{{"built", version.built}, {"found", version.found}};
  }
  return json.Dump() + "\n";
}

Json PartJson(const TextPart& part) {
  return {{"split", SplitName(part.split)}, {"first", part.first}, {"sequences", part.sequences}};
}

Json MeasurementJson(const Measurement& measurement) {
  Json json = Json::Object();
  if (measurement.text.has_value()) {
    const Validation& validation = measurement.text->validation;
    json["tokens"] = measurement.text->tokens;
    json["loss"] = validation.loss;
    json["perplexity"] = validation.perplexity();
    if (validation.bits_per_byte.has_value()) json["bits_per_byte"] = *validation.bits_per_byte;
  }
  if (measurement.tasks.empty()) return json;
  json["tasks"] = Json::Array();
  for (const TaskReport& task : measurement.tasks) json["tasks"].Append(TaskJson(task));
  return json;
}

Json CountsJson(const RouteCounts& counts) {
  Json rows = Json::Array();
  for (int layer = 0; layer < counts.layers; ++layer) {
    const auto own = counts.own(layer);
    rows.Append(std::vector<int64_t>(own.begin(), own.end()));
  }
  return rows;
}

Json RoutingJson(const RouteCounts& counts, const RoutingReport& report) {
  Json json = {{"counts", CountsJson(counts)},
               {"frequencies", FrequenciesJson(counts, report)},
               {"aggregate", report.aggregate},
               {"uniform", 1.0 / counts.columns()},
               {"entropy_bits", report.entropy_bits},
               {"aggregate_entropy_bits", report.aggregate_entropy_bits},
               {"top16_coverage", report.top16_coverage},
               {"jaccard_top16", Rows(report.jaccard, counts.layers)},
               {"mean_jaccard_top16", report.mean_jaccard},
               {"unused_experts", report.unused_experts}};
  json["top_sets"] = Json::Array();
  for (const TopSets& sets : report.top_sets) json["top_sets"].Append(TopSetsJson(sets));
  return json;
}

Json RandomizeJson(const RandomizeSettings& settings, const RandomizeReport& report) {
  Json json;
  json["settings"] = {{"layers", settings.layers},
                      {"gate", GateName(settings.routes.gate)},
                      {"draw", DrawName(settings.routes.draw)},
                      {"seed", settings.routes.seed},
                      {"matched_experts", settings.matched}};
  json["baseline"] = MeasurementJson(report.baseline);
  json["full"] = LayersJson(report, report.full, false);
  if (!report.matched.empty()) json["matched"] = LayersJson(report, report.matched, true);
  return json;
}

absl::Status CheckOutput(const CommandLine& line, const char* flag, const World& world) {
  const bool is_mine = world.is_first() && line.Has(flag);
  return world.Agree(is_mine ? CheckWritable(line.Value(flag, "")) : absl::OkStatus());
}

absl::Status WriteReport(const CommandLine& line, const Json& json, const std::string& text,
                         const World& world) {
  absl::Status status;
  if (world.is_first()) {
    if (line.Has("output")) {
      status = WriteFileAtomically(line.Value("output", ""), json.Dump() + "\n");
    }
    std::fputs((line.Has("json") ? json.Dump() + "\n" : text).c_str(), stdout);
    std::fflush(stdout);
  }
  return world.Agree(status);
}

std::string MeasurementText(const Measurement& measurement) {
  std::string text;
  if (measurement.text.has_value()) {
    const Validation& validation = measurement.text->validation;
    absl::StrAppendFormat(&text, "loss %.4f  perplexity %.3f", validation.loss,
                          validation.perplexity());
    if (validation.bits_per_byte.has_value()) {
      absl::StrAppendFormat(&text, "  bits/byte %.4f", *validation.bits_per_byte);
    }
    absl::StrAppendFormat(&text, "  over %d tokens\n", measurement.text->tokens);
  }
  for (const TaskReport& task : measurement.tasks) {
    absl::StrAppend(&text, task.file, "  ");
    if (task.has_choices) {
      absl::StrAppendFormat(&text, "accuracy %.2f %% +- %.2f  normalized %.2f %% +- %.2f  ",
                            100 * task.accuracy.share, 100 * task.accuracy.standard_error,
                            100 * task.normalized.share, 100 * task.normalized.standard_error);
    }
    absl::StrAppendFormat(&text, "greedy %.2f %% +- %.2f  of %d questions\n",
                          100 * task.greedy.share, 100 * task.greedy.standard_error,
                          task.questions);
  }
  return text;
}

}  // namespace unipool
