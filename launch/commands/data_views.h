// `unipool data inspect`, which describes token files, and `unipool data batch`, which prints the
// samples of a run's steps.
#pragma once

#include "absl/status/status.h"
#include "launch/commands/command_line.h"

namespace unipool {

CommandSpec InspectSpec();
CommandSpec BatchSpec();

absl::Status InspectData(const CommandLine& line);
// Prints one JSON line for each step: {"step": n, "samples": [[sequence + 1 ids], ...]}, the whole
// global batch in its order. Steps are counted from 1, as in metrics.jsonl.
absl::Status PrintBatches(const CommandLine& line);

}  // namespace unipool
