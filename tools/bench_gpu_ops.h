// Measures the rates of every op of a training step on one GPU.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/device.h"

namespace unipool {

struct GpuRate {
  std::string name;
  double seconds;
  double flops;  // 0 if memory bandwidth is the limit
  double bytes;  // 0 if arithmetic is the limit
};

struct GpuRates {
  std::vector<GpuRate> ops;
  double dense_flops;  // FLOP/s of a large bfloat16 product
  double copy_bytes;   // bytes read plus bytes written per second of a large copy
};

enum class GpuBenchSize {
  kPaper,  // the paper's 182M model
  kSmall,  // for an emulated GPU; the rates have no meaning
};

// Measures in bfloat16, with `arena_bytes` of the GPU's memory.
GpuRates MeasureGpuRates(Device device, int64_t arena_bytes, GpuBenchSize size);

}  // namespace unipool
