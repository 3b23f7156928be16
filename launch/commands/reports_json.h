// Results of measurements on a model, as JSON for other programs. Counts and shares are over all
// ranks.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "absl/status/status.h"
#include "launch/analysis/measurement.h"
#include "launch/analysis/randomize_probe.h"
#include "launch/analysis/routing_report.h"
#include "launch/commands/command_line.h"
#include "launch/commands/open_model.h"

namespace unipool {

// {"program", "checkpoint", "step", "layers", "pools", "experts", "top_k", "router"}; a dense model
// lacks the last four.
nlohmann::ordered_json OriginJson(const ModelOrigin& origin, const config::Run& run);
// {"split", "first", "sequences"}
nlohmann::ordered_json PartJson(const TextPart& part);
// {"loss", "perplexity", "bits_per_byte", "tokens", "tasks": [{"file", "questions", "accuracy",
// ...}]}
nlohmann::ordered_json MeasurementJson(const Measurement& measurement);
// {"counts", "frequencies": [layer][expert of its pool], "aggregate": [expert of all pools],
// "entropy_bits": [layer], "top_sets": [...], ...}
nlohmann::ordered_json RoutingJson(const RouteCounts& counts, const RoutingReport& report);
// {"version", "revision", "is_modified", "compiler", "options", "libraries": {NAME: {"built",
// "found"}}} and a line feed.
std::string VersionJsonText();
// [layer][expert]
nlohmann::ordered_json CountsJson(const RouteCounts& counts);
// {"settings", "baseline", "full": {"layers", "mean_change"}, "matched"}
nlohmann::ordered_json RandomizeJson(const RandomizeSettings& settings,
                                     const RandomizeReport& report);

// If the flag is given, checks that its file can be written, before the work starts. Collective.
absl::Status CheckOutput(const CommandLine& line, const char* flag, const World& world);
// The first rank writes the JSON to the file of --output, and to standard output the JSON with
// --json, else `text`. Collective.
absl::Status WriteReport(const CommandLine& line, const nlohmann::ordered_json& json,
                         const std::string& text, const World& world);

// "loss 1.2345  perplexity 3.437  bits/byte 1.78 ..." and one line for each task.
std::string MeasurementText(const Measurement& measurement);

}  // namespace unipool
