// Runs an op: checks its shapes, measures its time under its name, and calls the implementation for
// the stream's device. This is the only dispatch by device.
#pragma once

#include <glog/logging.h>

#include "runtime/build_config.h"
#include "runtime/context.h"
#include "runtime/finite_check.h"
#include "runtime/tensor.h"

namespace unipool {

template <typename Op>
void Compute(Context& ctx, Op op) {
  Profiler::Scope scope(ctx.profiler, Op::kName);
  op.Check();
  const Device device = ctx.stream->device();
  for (const Tensor* output : op.Outputs()) {
    CHECK(output->absent() || output->device == device)
        << Op::kName << " on " << ToString(device) << " into " << ToString(output->device);
  }
  if constexpr (kWithCuda) {
    if (device.type == DeviceType::kCuda) ComputeOnCuda(op, *ctx.stream);
  }
  if (device.type == DeviceType::kCpu) ComputeOnCpu(op);
  if (ctx.finite_check == nullptr) return;
  for (const Tensor* output : op.Outputs()) ctx.finite_check->Look(Op::kName, *output);
}

}  // namespace unipool
