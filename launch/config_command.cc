// `unipool config show FILE`: what a config comes to before anything is run.
#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"
#include "launch/command_line.h"
#include "launch/commands.h"
#include "launch/exit_codes.h"
#include "launch/run_config.h"
#include "model/footprint.h"

namespace unipool {
namespace {

const CommandSpec kSpec{
    .flags = {{"set", "FIELD=VALUE", "overrides a field, as in model.layers=4", true},
              {"ranks", "N", "ranks to plan memory for (default 1)"},
              {"help", "", "prints this"}},
    .arguments = {"show", "FILE"}};

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

void PrintMemory(const config::Run& run, int ranks) {
  absl::PrintF("\n# memory of a rank while training, MiB (activations with an even load)\n");
  absl::PrintF("#   %4s %10s %10s %10s %12s %10s %10s\n", "rank", "weights", "gradients", "moments",
               "activations", "snapshot", "total");
  const auto mib = [](int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  for (int rank = 0; rank < ranks; ++rank) {
    const MemoryPlan plan = PlanMemory(run, ranks, rank);
    absl::PrintF("#   %4d %10.1f %10.1f %10.1f %12.1f %10.1f %10.1f\n", rank, mib(plan.values),
                 mib(plan.gradients), mib(plan.moments), mib(plan.activations), mib(plan.snapshot),
                 mib(plan.total()));
  }
}

// Activations alone: nothing else depends on what is recomputed.
void PrintRecompute(config::Run run, int ranks) {
  const config::Model::Recompute chosen = run.model().recompute();
  absl::PrintF("\n# activations of a rank by model.recompute, MiB\n");
  for (const auto recompute : {config::Model::NONE, config::Model::EXPERT, config::Model::BLOCK}) {
    run.mutable_model()->set_recompute(recompute);
    absl::PrintF("#   %-6s %12.1f%s\n", config::Model::Recompute_Name(recompute),
                 static_cast<double>(PlanMemory(run, ranks, 0).activations) / (1 << 20),
                 recompute == chosen ? "  chosen" : "");
  }
}

}  // namespace

int ConfigCommand(const std::vector<std::string>& args) {
  const absl::StatusOr<CommandLine> line = CommandLine::Parse(args, kSpec);
  if (!line.ok()) return Report(line.status());
  const std::vector<std::string>& words = line->arguments();
  if (line->Has("help") || words.size() != 2 || words[0] != "show") {
    const bool asked = line->Has("help");
    std::fputs(UsageText("unipool config", kSpec).c_str(), asked ? stdout : stderr);
    return asked ? kExitDone : kExitBadInput;
  }
  const absl::StatusOr<int64_t> ranks = line->Integer("ranks", 1, 1);
  if (!ranks.ok()) return Report(ranks.status());
  const absl::StatusOr<config::Run> run = LoadRunConfig(words[1], line->Values("set"));
  if (!run.ok()) return Report(run.status());
  constexpr int64_t kMostRanks = 1 << 20;
  if (*ranks > kMostRanks) {
    return Report(absl::InvalidArgumentError(
        absl::StrFormat("--ranks=%d: expected at most %d", *ranks, kMostRanks)));
  }
  const int rank_count = static_cast<int>(*ranks);
  if (const absl::Status status = CheckRanks(*run, rank_count); !status.ok()) return Report(status);
  std::fputs(ToText(*run).c_str(), stdout);
  PrintCounts(*run, rank_count);
  PrintMemory(*run, rank_count);
  PrintRecompute(*run, rank_count);
  return kExitDone;
}

}  // namespace unipool
