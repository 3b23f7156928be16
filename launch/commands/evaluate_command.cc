// `unipool evaluate`: measures a trained model's loss on a part of its data, the routes of its
// tokens, and its accuracy on tasks.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "configs/run.pb.h"
#include "launch/analysis/measurement.h"
#include "launch/analysis/routing_hooks.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/open_model.h"
#include "launch/commands/reports_json.h"
#include "runtime/json.h"
#include "runtime/status.h"

namespace unipool {
namespace {

CommandSpec MakeSpec() {
  std::vector<Flag> flags = TextFlags();
  flags.push_back(
      {"tasks", "FILE",
       "JSON lines of questions {\"context\", \"choices\", \"gold\"}: measures the accuracy on "
       "them instead of the loss; with --split both",
       true});
  flags.push_back({"json", "", "prints one JSON object instead of text"});
  flags.push_back({"output", "FILE", "also writes the JSON object to FILE"});
  return {.flags = WithModelFlags(std::move(flags))};
}

std::string CountsText(const RouteCounts& counts) {
  std::string text = "routes by layer and expert\n";
  for (int layer = 0; layer < counts.layers; ++layer) {
    absl::StrAppendFormat(&text, "%4d  %s\n", layer, absl::StrJoin(counts.own(layer), " "));
  }
  return text;
}

absl::Status Evaluate(const CommandLine& line, const ModelOrigin& origin, InferenceModel& model) {
  const World& world = model.world();
  RETURN_IF_ERROR(CheckOutput(line, "output", world));
  Yardsticks yardsticks{.tasks = line.Values("tasks")};
  std::unique_ptr<EvaluationText> text;
  const bool wants_text = yardsticks.tasks.empty() || line.Has("split");
  if (wants_text) {
    ASSIGN_OR_RETURN(const TextPart part, ParseTextPart(line, model.run()));
    ASSIGN_OR_RETURN(text, OpenText(part, model));
    yardsticks.text = text.get();
  }
  const bool is_moe = model.run().model().ffn_kind() == config::Model::MOE;
  Json json = OriginJson(origin, model.run());
  if (wants_text) json.Update(PartJson(text->part()));
  std::string report;
  if (wants_text && is_moe) {
    // Questions are padded, so the routes of their tokens are not counted.
    RouteCounter counter(model.run());
    Measurement measured;
    ASSIGN_OR_RETURN(measured.text, MeasureTextLoss(*text, &counter, model));
    SumOverRanks(&counter.counts().counts, model);
    yardsticks.text = nullptr;
    ASSIGN_OR_RETURN(Measurement tasks, Measure(yardsticks, nullptr, model));
    measured.tasks = std::move(tasks.tasks);
    json.Update(MeasurementJson(measured));
    json["counts"] = CountsJson(counter.counts());
    report = MeasurementText(measured) + CountsText(counter.counts());
  } else {
    ASSIGN_OR_RETURN(const Measurement measured, Measure(yardsticks, nullptr, model));
    json.Update(MeasurementJson(measured));
    report = MeasurementText(measured);
  }
  return WriteReport(line, json, report, world);
}

}  // namespace

Command EvaluateCommand() {
  return {.name = "evaluate",
          .summary = "measures a trained model's loss, its routes, and its accuracy on tasks",
          .spec = MakeSpec(),
          .run = [](const CommandLine& line) {
            return OpenModel(line, [&line](const ModelOrigin& origin, InferenceModel& model) {
              return Evaluate(line, origin, model);
            });
          }};
}

}  // namespace unipool
