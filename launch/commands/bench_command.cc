// `unipool bench`. `step` measures whole training steps on synthetic text and compares them with a
// large matrix product of the BLAS library in the same process. `checkpoint` is in
// bench_checkpoint.cc.
#include <omp.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "configs/run.pb.h"
#include "launch/commands/bench.h"
#include "launch/commands/command_line.h"
#include "launch/commands/commands.h"
#include "launch/commands/load_run.h"
#include "launch/commands/run_flags.h"
#include "launch/config/run_config.h"
#include "launch/train/trainer.h"
#include "launch/world/device_choice.h"
#include "launch/world/version.h"
#include "launch/world/world.h"
#include "model/footprint.h"
#include "model/precision.h"
#include "runtime/blas.h"
#include "runtime/build_config.h"
#include "runtime/median.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/gemm.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr int64_t kSgemmSize = 2048;

// The flags that both sub-commands have, with those of `own`.
CommandSpec Spec(std::vector<Flag> own) {
  std::vector<Flag> flags = {ConfigFlag(), SetFlag(), DeviceFlag(), ThreadsFlag()};
  flags.insert(flags.end(), own.begin(), own.end());
  flags.push_back(HelpFlag());
  return {.flags = std::move(flags)};
}

double PeakMiB() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024.0;
}

// Speed of a large matrix product in the number type of the run, to compare training with.
struct Reference {
  std::string name;
  double flops = 0;  // per second, of all ranks together
};

// FLOP/s of the fastest of several products of two size x size matrices on the trainer's device.
absl::StatusOr<double> MeasureGpuGemm(Trainer& trainer, Device device, DType dtype, int64_t size) {
  constexpr int kTimes = 8;
  const int64_t bytes = size * size * static_cast<int64_t>(SizeOf(dtype));
  Tensor operands[3];
  Buffer buffers[3];
  for (int i = 0; i < 3; ++i) {
    ASSIGN_OR_RETURN(buffers[i], Buffer::Allocate(device, bytes));
    operands[i] = Tensor::View(buffers[i].data(), dtype, {size, size}, device);
  }
  double best = 0;
  for (int time = 0; time < kTimes; ++time) {
    const auto start = std::chrono::steady_clock::now();
    Compute(trainer.context(), Gemm{.a = operands[0],
                                    .b = operands[1],
                                    .c = operands[2],
                                    .transpose_a = false,
                                    .transpose_b = true,
                                    .accumulate = false});
    trainer.Synchronize();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, 2.0 * static_cast<double>(size * size * size) / elapsed.count());
  }
  return best;
}

// All ranks compute a product each at the same time. Collective.
absl::StatusOr<Reference> MeasureReference(const config::Run& run, const World& world,
                                           Trainer& trainer) {
  Reference reference;
  world.groups().world().Barrier();
  if (world.device() == Device{}) {
    reference.flops = MeasureSgemmFlops(omp_get_max_threads(), kSgemmSize);
    reference.name = absl::StrFormat("OpenBLAS, %d^3, ranks x threads %d x %d", kSgemmSize,
                                     world.size(), omp_get_max_threads());
  } else {
    const DType dtype = ActivationType(run, world.device().type);
    const int64_t size = kEmulatesCuda ? 64 : 8192;
    ASSIGN_OR_RETURN(reference.flops, MeasureGpuGemm(trainer, world.device(), dtype, size));
    reference.name = absl::StrFormat("cuBLAS, %s, %d^3, ranks %d", Name(dtype), size, world.size());
  }
  world.groups().world().AllReduce(Tensor::Of(&reference.flops, {1}), ReduceOp::kSum,
                                   *Stream::Create(Device{}));
  return reference;
}

// The measured steps.
struct Steps {
  std::vector<double> seconds;
  std::vector<double> exposed;  // seconds of each step in exposed communication, slowest rank
  StepRecord last;
};

void PrintExchange(const config::Run& run, const World& world, const std::string& chunks,
                   const Steps& steps) {
  if (run.model().ffn_kind() != config::Model::MOE) return;
  const double exposed = Median(steps.exposed);
  if (world.size() > 1) {
    absl::PrintF("exchange          chunks: %s\n", chunks);
    absl::PrintF(
        "exposed           %.4f s median, %.1f %% of a step: exchange not hidden by compute\n",
        exposed, 100 * exposed / Median(steps.seconds));
  }
  absl::PrintF(
      "imbalance         layer %.2f, pool %.2f: load of the busiest expert over the mean\n",
      steps.last.layer_imbalance, steps.last.pool_imbalance);
}

void Print(const config::Run& run, const World& world, Trainer& trainer, const std::string& chunks,
           const Steps& steps, const Reference& reference, double peak_mib) {
  constexpr double kMiB = 1 << 20;
  const std::vector<double>& seconds = steps.seconds;
  const double step_seconds = Median(seconds);
  const double tokens = static_cast<double>(trainer.tokens_per_step());
  const double flops = tokens * TrainingFlopsPerToken(run) / step_seconds;
  const MemoryPlan plan = PlanMemory(run, world.size(), world.rank(), world.device().type);
  absl::PrintF("step              %.4f s median, %.4f s best of %d\n", step_seconds,
               *std::min_element(seconds.begin(), seconds.end()), seconds.size());
  absl::PrintF("tokens/s          %.0f\n", tokens / step_seconds);
  absl::PrintF("model FLOP/s      %.2f G\n", flops / 1e9);
  absl::PrintF("product FLOP/s    %.2f G (%s)\n", reference.flops / 1e9, reference.name);
  absl::PrintF("share             %.1f %%\n", 100 * flops / reference.flops);
  PrintExchange(run, world, chunks, steps);
  if (world.device() == Device{}) {
    absl::PrintF("peak memory       %.1f MiB of this process, planned %.1f\n", peak_mib,
                 plan.total() / kMiB);
  } else {
    absl::PrintF("GPU memory        %.1f MiB planned; %.1f reserved for activations\n",
                 plan.on_device() / kMiB, trainer.arena().reserved_bytes() / kMiB);
  }
  absl::PrintF("activations       %.1f MiB peak, planned %.1f\n",
               trainer.arena().peak_bytes() / kMiB, plan.activations / kMiB);
}

// Chooses the number of exchange chunks, stores it in `run` and returns a description of the
// choice. A separate trainer with a negligible learning rate makes the trial steps, so that the
// steps measured later are always the first steps of a run.
absl::StatusOr<std::string> ChooseChunks(const Corpus& corpus, World& world, config::Run* run) {
  config::Run still = *run;
  still.mutable_schedule()->set_lr(1e-30);
  still.mutable_schedule()->set_min_lr(0);
  const auto trainer = Trainer::Create(still, corpus, world);
  RETURN_IF_ERROR(world.Agree(trainer.status()));
  const ChunkTrial& trial = (*trainer)->chunk_trial();
  while (!trial.settled()) RETURN_IF_ERROR((*trainer)->Step().status());
  run->mutable_parallel()->set_exchange_chunks(trial.chunks());
  return trial.ToString();
}

absl::Status BenchStep(config::Run run, int64_t steps, bool profile, World& world) {
  const absl::StatusOr<SyntheticText> text = WriteSyntheticText(&run);
  RETURN_IF_ERROR(world.Agree(text.status()));
  std::string chunks = absl::StrCat(run.parallel().exchange_chunks());
  const bool travels = run.model().ffn_kind() == config::Model::MOE && world.size() > 1;
  if (travels && run.parallel().exchange_chunks() == 0) {
    ASSIGN_OR_RETURN(chunks, ChooseChunks(*text->corpus, world, &run));
  }
  const auto created = Trainer::Create(run, *text->corpus, world);
  RETURN_IF_ERROR(world.Agree(created.status()));
  Trainer& trainer = **created;
  constexpr int kWarmSteps = 2;
  Steps measured;
  for (int64_t i = 0; i < kWarmSteps + steps; ++i) {
    if (i == kWarmSteps) trainer.profiler().Reset();
    trainer.profiler().set_enabled(profile && i >= kWarmSteps);
    const auto start = std::chrono::steady_clock::now();
    ASSIGN_OR_RETURN(measured.last, trainer.Step());
    trainer.Synchronize();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (i < kWarmSteps) continue;
    measured.seconds.push_back(elapsed.count());
    measured.exposed.push_back(measured.last.exposed_comm_seconds);
  }
  const double peak_mib = PeakMiB();  // before the reference product allocates memory
  ASSIGN_OR_RETURN(const Reference reference, MeasureReference(run, world, trainer));
  if (!world.is_first()) return absl::OkStatus();
  absl::PrintF("version           %s\n", VersionLine());
  absl::PrintF("device            %s\n", DescribeDevice(run, world.device()));
  if (profile) {
    const double total = std::accumulate(measured.seconds.begin(), measured.seconds.end(), 0.0);
    std::fputs(trainer.profiler().Table(total).c_str(), stdout);
  }
  Print(run, world, trainer, chunks, measured, reference, peak_mib);
  return absl::OkStatus();
}

using Bench = std::function<absl::Status(const config::Run& run, World& world)>;

int RunBench(const CommandLine& line, const Bench& bench) {
  const absl::StatusOr<std::vector<std::string>> overrides = RunOverrides(line);
  if (!overrides.ok()) return Report(overrides.status());
  const absl::StatusOr<config::Run> run = LoadRunAndWarn(line.Value("config", ""), *overrides);
  if (!run.ok()) return Report(run.status());
  MpiSession session;
  const absl::StatusOr<std::unique_ptr<World>> world = World::Create(*run);
  if (!world.ok()) return Report(world.status());
  const absl::Status ranks = CheckRanks(*run, (*world)->size());
  return Report(ranks.ok() ? bench(*run, **world) : ranks);
}

int StepCommand(const CommandLine& line) {
  const absl::StatusOr<int64_t> steps = line.Integer("steps", 5, 1);
  if (!steps.ok()) return Report(steps.status());
  return RunBench(line, [&](const config::Run& run, World& world) {
    return BenchStep(run, *steps, line.Has("profile"), world);
  });
}

int CheckpointsCommand(const CommandLine& line) {
  const absl::StatusOr<int64_t> times = line.Integer("times", 5, 1);
  if (!times.ok()) return Report(times.status());
  return RunBench(line, [&](const config::Run& run, World& world) {
    return BenchCheckpoint(run, line.Value("dir", "."), *times, world);
  });
}

}  // namespace

Command BenchCommand() {
  return {
      .name = "bench",
      .summary = "measures the speed of training, and of saving and loading checkpoints",
      .subs = {
          {.name = "step",
           .summary = "measures whole training steps on synthetic text",
           .spec = Spec({{"steps", "N", "measured steps, after two warm-up steps (default 5)"},
                         {"profile", "", "also prints the time of each part of a step"}}),
           .run = &StepCommand},
          {.name = "checkpoint",
           .summary = "measures saving and loading a run's state, beside plain writes and reads",
           .spec =
               Spec({{"dir", "FOLDER",
                      "folder in which a temporary folder is made (default: the current one)"},
                     {"times", "N", "number of saves and loads; medians are printed (default 5)"}}),
           .run = &CheckpointsCommand}}};
}

}  // namespace unipool
