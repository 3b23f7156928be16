// `unipool probe ...`: analyses of how layers share experts (model/method.md#probes).
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/run.pb.h"
#include "launch/analysis/randomize_probe.h"
#include "launch/analysis/routing_hooks.h"
#include "launch/analysis/routing_page.h"
#include "launch/analysis/routing_report.h"
#include "launch/analysis/text_loss.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/open_model.h"
#include "launch/commands/reports_json.h"
#include "runtime/files.h"
#include "runtime/json.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr int64_t kFindSequences = 64;

struct Probe {
  const char* name;
  const char* summary;
  std::vector<Flag> flags;
  absl::Status (*run)(const CommandLine&, const ModelOrigin&, InferenceModel&);
};

absl::StatusOr<std::unique_ptr<EvaluationText>> OpenGivenText(const CommandLine& line,
                                                              InferenceModel& model) {
  ASSIGN_OR_RETURN(const TextPart part, ParseTextPart(line, model.run()));
  return OpenText(part, model);
}

// 0 if the pool has no more than the default number of experts.
absl::StatusOr<int> ParseMatched(const CommandLine& line, const config::Pool& pool) {
  ASSIGN_OR_RETURN(const int64_t matched, line.Integer("matched", 8, 0));
  if (matched == 0 || (!line.Has("matched") && matched >= pool.experts())) return 0;
  if (matched >= pool.top_k() && matched < pool.experts()) return static_cast<int>(matched);
  return absl::InvalidArgumentError(
      absl::StrCat("--matched ", matched, ": choose 0, or at least pool.top_k = ", pool.top_k(),
                   " and less than pool.experts = ", pool.experts()));
}

absl::StatusOr<RandomizeSettings> ParseSettings(const CommandLine& line, const config::Run& run) {
  RandomizeSettings settings;
  ASSIGN_OR_RETURN(settings.layers, ParseLayers(line.Value("layers", "deep"),
                                                static_cast<int>(run.model().layers())));
  ASSIGN_OR_RETURN(settings.routes.gate, ParseGate(line.Value("gate", "original")));
  ASSIGN_OR_RETURN(settings.routes.draw, ParseDraw(line.Value("draw", "token")));
  ASSIGN_OR_RETURN(const int64_t seed, line.Integer("seed", 0, 0));
  settings.routes.seed = static_cast<uint64_t>(seed);
  ASSIGN_OR_RETURN(settings.matched, ParseMatched(line, run.pool()));
  return settings;
}

// The first sequences of a part, on which the most used experts are found. The loss skips them if
// it reads the same part.
struct FoundOn {
  std::unique_ptr<EvaluationText> text;
  TextPart part;
};

absl::StatusOr<TextPart> ParseFoundOn(const CommandLine& line) {
  TextPart part;
  ASSIGN_OR_RETURN(part.split, ParseSplit("find-split", line.Value("find-split", "validation")));
  ASSIGN_OR_RETURN(part.sequences, line.Integer("find-sequences", kFindSequences, 1));
  return part;
}

absl::StatusOr<FoundOn> OpenFoundOn(const TextPart& part, InferenceModel& model) {
  FoundOn found;
  ASSIGN_OR_RETURN(found.text, OpenText(part, model));
  found.part = found.text->part();
  return found;
}

void AppendChange(const std::string& name, const RandomizeReport& report,
                  const std::vector<RandomizedLayer>& layers, std::string* text) {
  if (layers.empty()) return;
  const RandomizeMeans means = MeanChange(report.baseline, layers);
  absl::StrAppendFormat(text, "\n%s, mean change over %d layers:", name, layers.size());
  if (report.baseline.text.has_value()) absl::StrAppendFormat(text, "  loss %+.4f", means.loss);
  for (size_t i = 0; i < means.tasks.size(); ++i) {
    const bool has_choices = report.baseline.tasks[i].has_choices;
    const double change = has_choices ? means.tasks[i].accuracy : means.tasks[i].greedy;
    absl::StrAppendFormat(text, "  %s %+.2f points", report.baseline.tasks[i].file, 100 * change);
  }
  absl::StrAppend(text, "\n");
  for (const RandomizedLayer& layer : layers) {
    absl::StrAppendFormat(text, "layer %d  %s", layer.layer, MeasurementText(layer.measured));
  }
}

absl::Status Randomize(const CommandLine& line, const ModelOrigin& origin, InferenceModel& model) {
  ASSIGN_OR_RETURN(const RandomizeSettings settings, ParseSettings(line, model.run()));
  ASSIGN_OR_RETURN(const TextPart found_on, ParseFoundOn(line));
  FoundOn found;
  if (settings.matched != 0) {
    ASSIGN_OR_RETURN(found, OpenFoundOn(found_on, model));
  }
  Yardsticks yardsticks{.tasks = line.Values("tasks")};
  std::unique_ptr<EvaluationText> text;
  Json json = OriginJson(origin, model.run());
  if (yardsticks.tasks.empty() || line.Has("split")) {
    ASSIGN_OR_RETURN(TextPart part, ParseTextPart(line, model.run()));
    if (!line.Has("first") && settings.matched != 0 && found.part.split == part.split) {
      part.first = found.part.sequences;
      part.first_flag = "find-sequences";
    }
    ASSIGN_OR_RETURN(text, OpenText(part, model));
    yardsticks.text = text.get();
    json.Update(PartJson(text->part()));
  }
  ASSIGN_OR_RETURN(const RandomizeReport report,
                   RunRandomize(settings, found.text.get(), yardsticks, model));
  json.Update(RandomizeJson(settings, report));
  if (settings.matched != 0) json["settings"]["found_on"] = PartJson(found.part);
  std::string summary = absl::StrCat("baseline  ", MeasurementText(report.baseline));
  AppendChange("random experts of the whole pool", report, report.full, &summary);
  AppendChange(absl::StrFormat("random experts of the layer's %d most used", settings.matched),
               report, report.matched, &summary);
  return WriteReport(line, json, summary, model.world());
}

absl::Status Reuse(const CommandLine& line, const ModelOrigin& origin, InferenceModel& model) {
  ASSIGN_OR_RETURN(const auto text, OpenGivenText(line, model));
  DistinctCounter counter(model.run());
  RETURN_IF_ERROR(MeasureTextLoss(*text, &counter, model).status());
  SumOverRanks(&counter.histogram(), model);
  const RouteCounts shape = RouteCounter(model.run()).counts();
  double sum = 0, tokens = 0;
  for (size_t u = 0; u < counter.histogram().size(); ++u) {
    sum += static_cast<double>(u) * static_cast<double>(counter.histogram()[u]);
    tokens += static_cast<double>(counter.histogram()[u]);
  }
  const double mean = sum / tokens;
  const double chance =
      DistinctExpertsByChance(shape.layers, shape.pools, shape.experts, shape.top_k);
  Json json = OriginJson(origin, model.run());
  json.Update(PartJson(text->part()));
  json["tokens"] = static_cast<int64_t>(tokens);
  json["distinct_experts"] = mean;
  json["distinct_experts_per_layer"] = mean / shape.layers;
  json["chance"] = chance;
  json["chance_per_layer"] = chance / shape.layers;
  json["histogram"] = counter.histogram();
  const std::string summary = absl::StrFormat(
      "a token uses %.3f distinct experts in %d layers (%.3f per layer), mean of %.0f tokens; "
      "uniform random routing gives %.3f (%.3f per layer)\n",
      mean, shape.layers, mean / shape.layers, tokens, chance, chance / shape.layers);
  return WriteReport(line, json, summary, model.world());
}

std::string UtilizationText(const RouteCounts& counts, const RoutingReport& report) {
  std::string text = absl::StrFormat(
      "aggregate  entropy %.3f bits (maximum %.3f), busiest expert %.2f times its equal share, %d "
      "of %d "
      "experts unused\nlayers     mean Jaccard index of the top 16 %.4f\n",
      report.aggregate_entropy_bits, std::log2(counts.columns()),
      counts.columns() * *std::max_element(report.aggregate.begin(), report.aggregate.end()),
      report.unused_experts, counts.columns(), report.mean_jaccard);
  for (int layer = 0; layer < counts.layers; ++layer) {
    absl::StrAppendFormat(&text, "layer %-4d entropy %.3f bits  top %d cover %.1f %%\n", layer,
                          report.entropy_bits[layer], std::min(16, counts.experts),
                          100 * report.top16_coverage[layer]);
  }
  for (const TopSets& sets : report.top_sets) {
    absl::StrAppendFormat(&text,
                          "top %-4d  union %d (%.1f %% of all, saturation %.1f %%)  cover %.1f %%, "
                          "by layer mean %.1f, minimum %.1f, median %.1f, maximum %.1f\n",
                          sets.k, sets.union_size, 100 * sets.union_share, 100 * sets.saturation,
                          100 * sets.weighted_coverage, 100 * sets.mean_coverage,
                          100 * sets.least_coverage, 100 * sets.median_coverage,
                          100 * sets.max_coverage);
  }
  return text;
}

absl::Status Utilization(const CommandLine& line, const ModelOrigin& origin,
                         InferenceModel& model) {
  RETURN_IF_ERROR(CheckOutput(line, "html", model.world()));
  ASSIGN_OR_RETURN(const auto text, OpenGivenText(line, model));
  RouteCounter counter(model.run());
  Measurement measured;
  ASSIGN_OR_RETURN(measured.text, MeasureTextLoss(*text, &counter, model));
  SumOverRanks(&counter.counts().counts, model);
  const RouteCounts& counts = counter.counts();
  const RoutingReport report = ReportRouting(counts);
  Json json = OriginJson(origin, model.run());
  json.Update(PartJson(text->part()));
  json.Update(MeasurementJson(measured));
  json.Update(RoutingJson(counts, report));
  absl::Status written;
  if (line.Has("html") && model.world().is_first()) {
    const std::vector<PageFact> facts = {
        {"checkpoint", origin.checkpoint},
        {"step", absl::StrCat(origin.step)},
        {"text", absl::StrFormat("%s, %d sequences, %d tokens", SplitName(text->part().split),
                                 text->part().sequences, measured.text->tokens)},
        {"loss", absl::StrFormat("%.4f", measured.text->validation.loss)}};
    written = WriteFileAtomically(line.Value("html", ""), RoutingPage(counts, report, facts));
  }
  RETURN_IF_ERROR(model.world().Agree(written));
  return WriteReport(line, json, MeasurementText(measured) + UtilizationText(counts, report),
                     model.world());
}

std::vector<Probe> Probes() {
  const std::vector<Flag> output = {{"json", "", "prints one JSON object instead of text"},
                                    {"output", "FILE", "also writes the JSON object to FILE"}};
  std::vector<Flag> randomize = {
      {"layers", "deep|all|LIST",
       "layers to randomize, one at a time: all, a list as in 3,5-7, or deep, the upper half "
       "(default deep)"},
      {"gate", "original|own|one",
       "gate of a random expert: that of the expert it replaces, its own score, or 1 (default "
       "original)"},
      {"draw", "token|sequence", "draws experts once per token or per sequence (default token)"},
      {"seed", "N", "seed of the draws (default 0)"},
      {"matched", "K",
       "also draws from the K most used experts of each layer; 0 omits this (default 8, or 0 if "
       "the pool has at most 8 experts)"},
      {"find-split", "validation|test|train",
       "part on which the most used experts are found (default validation)"},
      {"find-sequences", "N",
       "number of sequences of that part to find them on (default 64); unless --first is given, "
       "the loss skips these sequences"},
      {"tasks", "FILE",
       "measures accuracy on the questions in FILE, as `unipool evaluate` does; with --split the "
       "loss too",
       true}};
  std::vector<Flag> utilization = {{"html", "FILE", "also writes an HTML page with a heatmap"}};
  for (std::vector<Flag>* flags : {&randomize, &utilization}) {
    flags->insert(flags->end(), output.begin(), output.end());
  }
  return {
      {"randomize", "measures the change of loss and accuracy if one layer routes at random",
       randomize, &Randomize},
      {"reuse", "counts the distinct experts that a token uses over all layers", output, &Reuse},
      {"utilization", "measures which experts each layer uses", utilization, &Utilization}};
}

CommandSpec SpecOf(const Probe& probe) {
  std::vector<Flag> flags = TextFlags();
  flags.insert(flags.end(), probe.flags.begin(), probe.flags.end());
  return {.flags = WithModelFlags(std::move(flags))};
}

int RunProbe(const Probe& probe, const CommandLine& line) {
  return OpenModel(line, [&](const ModelOrigin& origin, InferenceModel& model) {
    if (model.run().model().ffn_kind() == config::Model::MOE) {
      RETURN_IF_ERROR(CheckOutput(line, "output", model.world()));
      return probe.run(line, origin, model);
    }
    return absl::InvalidArgumentError(
        absl::StrCat(origin.checkpoint,
                     ": a dense model has no routes; choose a checkpoint of a mixture of experts"));
  });
}

}  // namespace

Command ProbeCommand() {
  std::vector<Command> subs;
  for (const Probe& probe : Probes()) {
    subs.push_back({.name = probe.name,
                    .summary = probe.summary,
                    .spec = SpecOf(probe),
                    .run = [probe](const CommandLine& line) { return RunProbe(probe, line); }});
  }
  return {.name = "probe",
          .summary = "analyses how the layers of a trained model share experts",
          .subs = std::move(subs)};
}

}  // namespace unipool
