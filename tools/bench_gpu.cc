// Measures the rate of every op of a training step on one GPU, at the sizes of a UniPool model, in
// bfloat16. Each rate is compared with a ceiling measured in the same run: a large dense product
// for arithmetic, a large copy (bytes read plus bytes written) for memory.
//
// usage: bench_gpu [--small] [--tsv FILE]
//   --tsv: also writes name, microseconds, rate and share in percent of each op
//   --small: sizes for an emulated GPU, to test that the program runs; the rates have no meaning
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "absl/strings/str_format.h"
#include "runtime/build_config.h"
#include "runtime/gpu.h"
#include "tools/bench_gpu_ops.h"

namespace unipool {
namespace {

// "798.3 TFLOP/s".
std::string RateText(const GpuRate& op) {
  if (op.flops > 0) return absl::StrFormat("%.1f TFLOP/s", op.flops / op.seconds / 1e12);
  return absl::StrFormat("%.1f GB/s", op.bytes / op.seconds / 1e9);
}

// Fraction of the ceiling. These are unused in a build without CUDA.
double Share(const GpuRates& rates, const GpuRate& op) {
  return op.flops > 0 ? op.flops / op.seconds / rates.dense_flops
                      : op.bytes / op.seconds / rates.copy_bytes;
}

[[maybe_unused]] void Print(const GpuRates& rates) {
  std::cout << absl::StrFormat("%-44s %10s %16s %9s\n", "op", "us", "rate", "share");
  for (const GpuRate& op : rates.ops) {
    std::cout << absl::StrFormat("%-44s %10.1f %16s %7.1f %%\n", op.name, 1e6 * op.seconds,
                                 RateText(op), 100 * Share(rates, op));
  }
}

[[maybe_unused]] bool WriteTsv(const GpuRates& rates, const std::string& path) {
  std::ofstream out(path);
  for (const GpuRate& op : rates.ops) {
    out << absl::StrFormat("%s\t%.1f\t%s\t%.1f\n", op.name, 1e6 * op.seconds, RateText(op),
                           100 * Share(rates, op));
  }
  return static_cast<bool>(out.flush());
}

int Main(const std::vector<std::string>& args) {
  GpuBenchSize size = GpuBenchSize::kPaper;
  std::string tsv;
  for (size_t i = 0; i < args.size(); ++i) {
    if (args[i] == "--small") {
      size = GpuBenchSize::kSmall;
    } else if (args[i] == "--tsv" && i + 1 < args.size()) {
      tsv = args[++i];
    } else {
      std::cerr << "bench_gpu: unknown or incomplete option " << args[i]
                << "; use --small or --tsv FILE" << std::endl;
      return 2;
    }
  }
  const Device device{DeviceType::kCuda, 0};
  if constexpr (kWithCuda) {
    if (NumGpus() > 0) {
      const int64_t arena_bytes =
          size == GpuBenchSize::kSmall ? int64_t{64} << 20 : GpuMemoryBytes(device) / 4 * 3;
      const GpuRates rates = MeasureGpuRates(device, arena_bytes, size);
      std::cout << DescribeGpu(device) << std::endl;
      Print(rates);
      if (tsv.empty() || WriteTsv(rates, tsv)) return 0;
      std::cerr << "bench_gpu: " << tsv << ": cannot be written; choose another --tsv file"
                << std::endl;
      return 2;
    }
    std::cerr << "bench_gpu: no GPU: " << DescribeGpu(device) << std::endl;
    return 77;
  }
  std::cerr << "bench_gpu: no GPU: this build has no CUDA; configure with -DUNIPOOL_WITH_CUDA=ON"
            << std::endl;
  return 77;
}

}  // namespace
}  // namespace unipool

int main(int argc, char** argv) { return unipool::Main({argv + 1, argv + argc}); }
