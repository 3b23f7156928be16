// `unipool bench step`: speed of whole training steps on made-up text, beside the rate of a large
// matrix product by the BLAS library in the same process.
#include <omp.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <numeric>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "data/indexed_dataset.h"
#include "launch/command_line.h"
#include "launch/commands.h"
#include "launch/device_choice.h"
#include "launch/exit_codes.h"
#include "launch/loaders.h"
#include "launch/run_config.h"
#include "launch/trainer.h"
#include "launch/world.h"
#include "model/footprint.h"
#include "model/precision.h"
#include "runtime/blas.h"
#include "runtime/build_config.h"
#include "runtime/ops/compute.h"
#include "runtime/ops/gemm.h"
#include "runtime/rng.h"
#include "runtime/status.h"

namespace unipool {
namespace {

constexpr int64_t kSgemmSize = 2048;

const CommandSpec kSpec{
    .flags = {{"config", "FILE", "textproto of the run"},
              {"set", "FIELD=VALUE", "overrides a field, as in model.layers=4", true},
              DeviceFlag(),
              {"threads", "N", "CPU threads of each rank (parallel.threads)"},
              {"steps", "N", "measured steps, after two for warming up (default 5)"},
              {"profile", "", "prints where the time went"},
              {"help", "", "prints this"}},
    .arguments = {"step"}};

// A folder that is gone with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::error_code error;
    const std::filesystem::path parent = std::filesystem::temp_directory_path(error);
    std::string name = (parent / "unipool-bench-XXXXXX").string();
    if (!error && mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Ids with the skew of words in text: id i is about as frequent as 1 / (i + 1).
absl::Status WriteMadeUpText(const std::string& prefix, const config::Run& run) {
  const int64_t vocab = run.model().vocab(), length = run.model().sequence() + 1;
  ASSIGN_OR_RETURN(auto writer, IndexedDatasetWriter::Create(prefix, vocab));
  const Rng rng(run.seed(), StreamId("bench"));
  std::vector<int32_t> document(static_cast<size_t>(length));
  for (int64_t d = 0; d < 4 * run.data().global_batch() + 40; ++d) {
    for (int64_t i = 0; i < length; ++i) {
      const double u = rng.Uniform(static_cast<uint64_t>(d * length + i));
      document[i] = static_cast<int32_t>(
          std::min<double>(vocab - 1, std::pow(static_cast<double>(vocab), u) - 1));
    }
    RETURN_IF_ERROR(writer->AddDocument(document));
  }
  return writer->Finish();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

double PeakMiB() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024.0;
}

// A large product of the numbers that the run computes in.
struct Yardstick {
  std::string name;
  double flops = 0;  // a second, of all ranks together
};

// FLOP/s of the best of a few products of `size` on the trainer's device.
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

// Each rank at a product of its own at the same time. Collective.
absl::StatusOr<Yardstick> MeasureYardstick(const config::Run& run, const World& world,
                                           Trainer& trainer) {
  Yardstick yardstick;
  world.groups().world().Barrier();
  if (world.device() == Device{}) {
    yardstick.flops = MeasureSgemmFlops(omp_get_max_threads(), kSgemmSize);
    yardstick.name = absl::StrFormat("OpenBLAS, %d^3, ranks x threads %d x %d", kSgemmSize,
                                     world.size(), omp_get_max_threads());
  } else {
    const DType dtype = ActivationType(run, world.device().type);
    const int64_t size = kEmulatesCuda ? 64 : 8192;
    ASSIGN_OR_RETURN(yardstick.flops, MeasureGpuGemm(trainer, world.device(), dtype, size));
    yardstick.name = absl::StrFormat("cuBLAS, %s, %d^3, ranks %d", Name(dtype), size, world.size());
  }
  world.groups().world().AllReduce(Tensor::Of(&yardstick.flops, {1}), ReduceOp::kSum,
                                   *Stream::Create(Device{}));
  return yardstick;
}

void Print(const config::Run& run, const World& world, Trainer& trainer,
           const std::vector<double>& seconds, const Yardstick& yardstick, double peak_mib) {
  constexpr double kMiB = 1 << 20;
  const double step_seconds = Median(seconds);
  const double tokens = static_cast<double>(trainer.tokens_per_step());
  const double flops = tokens * TrainingFlopsPerToken(run) / step_seconds;
  const MemoryPlan plan = PlanMemory(run, world.size(), world.rank(), world.device().type);
  absl::PrintF("step              %.4f s median, %.4f s best of %d\n", step_seconds,
               *std::min_element(seconds.begin(), seconds.end()), seconds.size());
  absl::PrintF("tokens/s          %.0f\n", tokens / step_seconds);
  absl::PrintF("model FLOP/s      %.2f G\n", flops / 1e9);
  absl::PrintF("product FLOP/s    %.2f G (%s)\n", yardstick.flops / 1e9, yardstick.name);
  absl::PrintF("share             %.1f %%\n", 100 * flops / yardstick.flops);
  if (world.device() == Device{}) {
    absl::PrintF("peak memory       %.1f MiB of the process, planned %.1f\n", peak_mib,
                 plan.total() / kMiB);
  } else {
    absl::PrintF("GPU memory        %.1f MiB planned; %.1f reserved for activations\n",
                 plan.on_device() / kMiB, trainer.arena().reserved_bytes() / kMiB);
  }
  absl::PrintF("activations       %.1f MiB at their peak, planned %.1f\n",
               trainer.arena().peak_bytes() / kMiB, plan.activations / kMiB);
}

// Also makes it the run's.
absl::StatusOr<std::unique_ptr<Corpus>> MakeUpCorpus(const TemporaryFolder& folder,
                                                     config::Run* run) {
  if (folder.path().empty()) {
    return absl::FailedPreconditionError(
        "no folder for made-up data can be made: expected TMPDIR to name one that is writable");
  }
  config::Data& data = *run->mutable_data();
  data.clear_source();
  data.set_prefix(folder.path() + "/text");
  data.set_split("90,5,5");
  data.set_order(config::Data::STATELESS);
  RETURN_IF_ERROR(WriteMadeUpText(data.prefix(), *run));
  return Corpus::Open(data);
}

absl::Status Bench(config::Run run, int64_t steps, bool profile, World& world) {
  RETURN_IF_ERROR(CheckRanks(run, world.size()));
  const TemporaryFolder folder;
  const auto corpus = MakeUpCorpus(folder, &run);
  RETURN_IF_ERROR(world.Agree(corpus.status()));
  const auto created = Trainer::Create(run, **corpus, world);
  RETURN_IF_ERROR(world.Agree(created.status()));
  Trainer& trainer = **created;
  constexpr int kWarmSteps = 2;
  std::vector<double> seconds;
  for (int64_t i = 0; i < kWarmSteps + steps; ++i) {
    if (i == kWarmSteps) trainer.profiler().Reset();
    trainer.profiler().set_enabled(profile && i >= kWarmSteps);
    const auto start = std::chrono::steady_clock::now();
    RETURN_IF_ERROR(trainer.Step().status());
    trainer.Synchronize();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    if (i >= kWarmSteps) seconds.push_back(elapsed.count());
  }
  const double peak_mib = PeakMiB();  // before the large products take memory too
  ASSIGN_OR_RETURN(const Yardstick yardstick, MeasureYardstick(run, world, trainer));
  if (!world.is_first()) return absl::OkStatus();
  absl::PrintF("device            %s\n", DescribeDevice(run, world.device()));
  if (profile) {
    const double total = std::accumulate(seconds.begin(), seconds.end(), 0.0);
    std::fputs(trainer.profiler().Table(total).c_str(), stdout);
  }
  Print(run, world, trainer, seconds, yardstick, peak_mib);
  return absl::OkStatus();
}

}  // namespace

int BenchCommand(const std::vector<std::string>& args) {
  const absl::StatusOr<CommandLine> line = CommandLine::Parse(args, kSpec);
  if (!line.ok()) return Report(line.status());
  if (line->Has("help") || line->arguments() != std::vector<std::string>{"step"}) {
    const bool asked = line->Has("help");
    std::fputs(UsageText("unipool bench", kSpec).c_str(), asked ? stdout : stderr);
    return asked ? kExitDone : kExitBadInput;
  }
  const absl::StatusOr<int64_t> steps = line->Integer("steps", 5, 1);
  if (!steps.ok()) return Report(steps.status());
  const absl::StatusOr<std::vector<std::string>> overrides = RunOverrides(*line);
  if (!overrides.ok()) return Report(overrides.status());
  const absl::StatusOr<config::Run> run = LoadRunConfig(line->Value("config", ""), *overrides);
  if (!run.ok()) return Report(run.status());
  MpiSession session;
  const absl::StatusOr<std::unique_ptr<World>> world = World::Create(*run);
  if (!world.ok()) return Report(world.status());
  return Report(Bench(*run, *steps, line->Has("profile"), **world));
}

}  // namespace unipool
