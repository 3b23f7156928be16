// Results of measurements on a model, as JSON for other programs. Counts and shares are over all
// ranks.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "launch/analysis/measurement.h"
#include "launch/analysis/randomize_probe.h"
#include "launch/analysis/routing_report.h"
#include "launch/commands/command_line.h"
#include "launch/commands/open_model.h"
#include "runtime/json.h"

namespace unipool {

// {"program", "checkpoint", "step", "layers", "pools", "experts", "top_k", "router"}; a dense model
// lacks the last four.
Json OriginJson(const ModelOrigin& origin, const config::Run& run);
// {"split", "first", "sequences"}
Json PartJson(const TextPart& part);
// {"loss", "perplexity", "bits_per_byte", "tokens", "tasks": [{"file", "questions", "accuracy",
// ...}]}
Json MeasurementJson(const Measurement& measurement);
// {"counts", "frequencies": [layer][expert of its pool], "aggregate": [expert of all pools],
// "entropy_bits": [layer], "top_sets": [...], ...}
Json RoutingJson(const RouteCounts& counts, const RoutingReport& report);
// {"version", "revision", "is_modified", "compiler", "options", "libraries": {NAME: {"built",
// "found"}}} and a line feed.
std::string VersionJsonText();
// [layer][expert]
Json CountsJson(const RouteCounts& counts);
// {"settings", "baseline", "full": {"layers", "mean_change"}, "matched"}
Json RandomizeJson(const RandomizeSettings& settings, const RandomizeReport& report);

// If the flag is given, checks that its file can be written, before the work starts. Collective.
absl::Status CheckOutput(const CommandLine& line, const char* flag, const World& world);
// The first rank writes the JSON to the file of --output, and to standard output the JSON with
// --json, else `text`. Collective.
absl::Status WriteReport(const CommandLine& line, const Json& json, const std::string& text,
                         const World& world);

// "loss 1.2345  perplexity 3.437  bits/byte 1.78 ..." and one line for each task.
std::string MeasurementText(const Measurement& measurement);

}  // namespace unipool
