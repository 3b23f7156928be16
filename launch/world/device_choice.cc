#include "launch/world/device_choice.h"

#include <omp.h>

#include "absl/strings/str_cat.h"
#include "configs/run.pb.h"
#include "model/precision.h"
#include "runtime/build_config.h"
#include "runtime/gpu.h"

namespace unipool {
namespace {

constexpr Device kFirstGpu{DeviceType::kCuda, 0};

int UsableGpus() {
  if constexpr (kWithCuda) return NumGpus();
  return 0;
}

std::string WhyNoGpu() {
  if constexpr (kWithCuda) return DescribeGpu(kFirstGpu);
  return "this program was built without CUDA";
}

}  // namespace

DeviceType WantedDevice(const config::Run& run) {
  const config::Parallel::Device wanted = run.parallel().device();
  const bool gpu =
      wanted == config::Parallel::CUDA || (wanted == config::Parallel::AUTO && UsableGpus() > 0);
  return gpu ? DeviceType::kCuda : DeviceType::kCpu;
}

absl::StatusOr<Device> ChooseDevice(const config::Run& run, int local_rank) {
  const DeviceType wanted = WantedDevice(run);
  if (wanted == DeviceType::kCpu) {
    if (run.model().precision() != config::Model::BF16) return Device{};
    return absl::InvalidArgumentError(
        "model.precision is BF16, which is not supported on a CPU; set it to FP32 or AUTO, or use "
        "a "
        "GPU (--device cuda)");
  }
  if (UsableGpus() == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("parallel.device is CUDA, but this host has no usable GPU (", WhyNoGpu(),
                     "); use --device cpu, or a host with a GPU"));
  }
  return Device{DeviceType::kCuda, local_rank % UsableGpus()};
}

std::string DescribeDevice(const config::Run& run, Device device) {
  const char* numbers = Name(ActivationType(run, device.type));
  if constexpr (kWithCuda) {
    if (device.type == DeviceType::kCuda) {
      return absl::StrCat(ToString(device), " (", DescribeGpu(device), "), ", numbers);
    }
  }
  const int threads = omp_get_max_threads();
  return absl::StrCat("CPU, ", numbers, ", ", threads, threads == 1 ? " thread" : " threads",
                      " per rank");
}

}  // namespace unipool
