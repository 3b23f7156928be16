// Rates of every op of a training step on one GPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/device.h"

namespace unipool {

struct GpuRate {
  std::string name;
  double seconds;
  double flops;  // 0 where memory is what limits it
  double bytes;  // 0 where arithmetic is
};

struct GpuRates {
  std::vector<GpuRate> ops;
  double dense_flops;  // a second, of a large product in bfloat16
  double copy_bytes;   // a second, read and written, of a large copy
};

// At the sizes of the paper's 182M model in bfloat16, with `arena_bytes` of the GPU's memory; or,
// where `small`, at sizes for an emulated GPU.
GpuRates MeasureGpuRates(Device device, int64_t arena_bytes, bool small);

}  // namespace unipool
