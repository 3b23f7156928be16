// What was found out about a model, as JSON for other programs. Fields are named in words; sums and
// shares are over all ranks.
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

// {"checkpoint", "step", "layers", "pools", "experts", "top_k", "router"}; the last four of MoE
// only
Json OriginJson(const ModelOrigin& origin, const config::Run& run);
// {"split", "first", "sequences"}
Json PartJson(const TextPart& part);
// {"loss", "perplexity", "bits_per_byte", "tokens", "tasks": [{"file", "questions", "accuracy",
// ...}]}
Json MeasurementJson(const Measurement& measurement);
// {"counts", "frequencies": [layer][expert of its pool], "aggregate": [expert of all pools],
// "entropy_bits": [layer], "top_sets": [...], ...}
Json RoutingJson(const RouteCounts& counts, const RoutingReport& report);
// [layer][expert]
Json CountsJson(const RouteCounts& counts);
// {"settings", "baseline", "full": {"layers", "mean_change"}, "matched"}
Json RandomizeJson(const RandomizeSettings& settings, const RandomizeReport& report);

// Whether the file of a flag, where it is given, can be written: for before the work. Collective.
absl::Status CheckOutput(const CommandLine& line, const char* flag, const World& world);
// On the first rank: JSON to --output FILE, and to standard output JSON with --json, else `text`.
// Collective.
absl::Status Deliver(const CommandLine& line, const Json& json, const std::string& text,
                     const World& world);

// "loss 1.2345  perplexity 3.437  bits/byte 1.78 ..." and a line a task.
std::string MeasurementText(const Measurement& measurement);

}  // namespace unipool
