// `unipool config`: the resolved config with its parameter counts and memory, without running it; a
// starter config; what a field means.
#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "comm/process_groups.h"
#include "configs/run.pb.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/load_run.h"
#include "launch/commands/run_flags.h"
#include "launch/config/field_help.h"
#include "launch/config/run_config.h"
#include "launch/world/device_choice.h"
#include "model/footprint.h"
#include "model/precision.h"
#include "runtime/status.h"

namespace unipool {
namespace {

const CommandSpec kSpec{.flags = {SetFlag(),
                                  {"ranks", "N", "number of ranks to plan memory for (default 1)"},
                                  {"device", "auto|cpu|cuda",
                                   "device to plan memory for (parallel.device; default auto)"},
                                  HelpFlag()},
                        .arguments = {"FILE"}};

void PrintCounts(const config::Run& run, int ranks) {
  const ParameterCounts counts = CountParameters(run);
  const bool dense = run.model().ffn_kind() == config::Model::DENSE;
  const auto row = [](const char* what, int64_t count) {
    absl::PrintF("#   %-22s %15d\n", what, count);
  };
  absl::PrintF("\n# parameters\n");
  row("embedding", counts.embedding);
  row("output head", counts.head);
  row("attention", counts.attention);
  row("norms", counts.norms);
  row(dense ? "feed-forward" : "experts", counts.ffn);
  row("routers", counts.routers);
  row("router scales", counts.router_scales);
  row("total", counts.total());
  row("active per token", ActiveParameters(run));
  for (int rank = 0; rank < ranks; ++rank) {
    row(absl::StrFormat("on rank %d of %d", rank, ranks).c_str(), RankParameters(run, ranks, rank));
  }
  absl::PrintF("# training FLOP per token %.4g\n", TrainingFlopsPerToken(run));
}

double MiB(int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

// On a GPU the snapshot of the checkpoint is in host memory and is not part of the total.
void PrintMemory(const config::Run& run, int ranks, DeviceType device) {
  const bool gpu = device == DeviceType::kCuda;
  const bool masters = ActivationType(run, device) != DType::kFloat32;
  absl::PrintF(
      "\n# memory of a rank during training, MiB (%s; activations at an even expert load)\n",
      gpu ? "on a GPU; snapshot in host memory" : "on a CPU");
  absl::PrintF("#   %4s %10s%s %10s %10s %12s %10s %10s\n", "rank", "weights",
               masters ? "    masters" : "", "gradients", "moments", "activations", "snapshot",
               "total");
  for (int rank = 0; rank < ranks; ++rank) {
    const MemoryPlan plan = PlanMemory(run, ranks, rank, device);
    absl::PrintF("#   %4d %10.1f", rank, MiB(masters ? plan.weights : plan.values));
    if (masters) absl::PrintF(" %10.1f", MiB(plan.values));
    absl::PrintF(" %10.1f %10.1f %12.1f %10.1f %10.1f\n", MiB(plan.gradients), MiB(plan.moments),
                 MiB(plan.activations), MiB(plan.snapshot),
                 MiB(gpu ? plan.on_device() : plan.total()));
  }
}

// Only the activations depend on model.recompute.
void PrintRecompute(config::Run run, int ranks, DeviceType device) {
  const config::Model::Recompute chosen = run.model().recompute();
  absl::PrintF("\n# activations of a rank by model.recompute, MiB\n");
  for (const auto recompute : {config::Model::NONE, config::Model::EXPERT, config::Model::BLOCK}) {
    run.mutable_model()->set_recompute(recompute);
    absl::PrintF("#   %-6s %12.1f%s\n", config::Model::Recompute_Name(recompute),
                 MiB(PlanMemory(run, ranks, 0, device).activations),
                 recompute == chosen ? "  chosen" : "");
  }
}

absl::Status Show(const CommandLine& line) {
  ASSIGN_OR_RETURN(const int64_t ranks, line.Integer("ranks", 1, 1));
  ASSIGN_OR_RETURN(const std::vector<std::string> overrides, RunOverrides(line));
  ASSIGN_OR_RETURN(config::Run run, LoadRunAndWarn(line.arguments()[0], overrides));
  if (ranks > kMaxRanks) {
    return absl::InvalidArgumentError(
        absl::StrFormat("--ranks=%d: expected at most %d", ranks, kMaxRanks));
  }
  const int rank_count = static_cast<int>(ranks);
  RETURN_IF_ERROR(CheckRanks(run, rank_count));
  std::fputs(ToText(run).c_str(), stdout);
  PrintCounts(run, rank_count);
  PrintMemory(run, rank_count, WantedDevice(run));
  PrintRecompute(run, rank_count, WantedDevice(run));
  return absl::OkStatus();
}

absl::Status Print(const absl::StatusOr<std::string>& text) {
  if (text.ok()) std::fputs(text->c_str(), stdout);
  return text.status();
}

}  // namespace

Command ConfigCommand() {
  return {.name = "config",
          .summary = "resolved config and memory, a starter config, and what fields mean",
          .subs = {{.name = "show",
                    .summary = "prints the resolved config, its parameter counts and the memory of "
                               "each rank",
                    .spec = kSpec,
                    .run = [](const CommandLine& line) { return Report(Show(line)); }},
                   {.name = "init",
                    .summary = "prints a commented config to copy and edit",
                    .spec = {.flags = {{"size", StarterSizes(),
                                        "small (default) trains on one machine without a GPU; the "
                                        "others are models of the paper"},
                                       HelpFlag()}},
                    .run =
                        [](const CommandLine& line) {
                          return Report(Print(StarterConfig(line.Value("size", "small"))));
                        }},
                   {.name = "help",
                    .summary = "prints type, default, meaning and range of a config field such as "
                               "pool.pool_loss, or lists the fields of a message such as pool",
                    .spec = {.flags = {HelpFlag()}, .arguments = {"[FIELD]"}},
                    .run = [](const CommandLine& line) {
                      const auto& words = line.arguments();
                      return Report(Print(FieldHelp(words.empty() ? "" : words[0])));
                    }}}};
}

}  // namespace unipool
