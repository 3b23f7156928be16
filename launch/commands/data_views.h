// `unipool data inspect` and `unipool data batch`: what token files hold, and what a run is trained
// on.
#pragma once

#include "absl/status/status.h"
#include "launch/commands/command_line.h"

namespace unipool {

extern const CommandSpec kInspectSpec;
extern const CommandSpec kBatchSpec;

absl::Status InspectData(const CommandLine& line);
// A JSON line a step on standard output: {"step": n, "samples": [[sequence + 1 ids], ...]}, the
// whole global batch in its order. Step n is that of record n of metrics.jsonl, so the first is 1.
absl::Status PrintBatches(const CommandLine& line);

}  // namespace unipool
