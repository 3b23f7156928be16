#include "runtime/ops/adamw.h"

#include <gtest/gtest.h>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::BothDevices;
using testing::Workbench;

AdamW Step(Workbench& bench, int64_t count) {
  const Tensor v = bench.Random("v", {count});
  for (int64_t i = 0; i < count; ++i) v.as<float>()[i] *= v.as<float>()[i];
  return {.value = bench.Random("value", {count}),
          .grad = bench.Random("grad", {count}),
          .m = bench.Random("m", {count}),
          .v = v,
          .rounded = {},
          .lr = 1e-2f,
          .beta1 = 0.9f,
          .beta2 = 0.95f,
          .eps = 1e-8f,
          .weight_decay = 0.1f,
          .bias1 = 0.3f,
          .bias2 = 0.1f,
          .grad_scale = 0.5f};
}

TEST(AdamWOnBothDevices, AStepIsTheSameAndRoundsTheWeights) {
  SKIP_WITHOUT_GPU();
  for (const int64_t count : {0, 3, 40003}) {
    Workbench bench;
    BothDevices<AdamW> both{.op = Step(bench, count), .options = {.bfloat16 = false}};
    both.Expect();
    both.op.rounded = bench.arena().Allocate(DType::kBFloat16, {count});
    both.Expect();
  }
}

TEST(AdamWOnBothDevices, TakesPartsThatStartBetweenPacks) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  testing::DeviceCopies copies;
  AdamW host = Step(bench, 103), device = host;
  for (Tensor* tensor : {&device.value, &device.grad, &device.m, &device.v}) {
    copies.Move(tensor, false);
  }
  for (AdamW* op : {&host, &device}) {
    for (Tensor* tensor : {&op->value, &op->grad, &op->m, &op->v}) *tensor = tensor->Rows(1, 100);
  }
  Compute(bench.ctx(), host);
  Compute(copies.ctx(), device);
  testing::ExpectClose("value", copies.Read(device.value), testing::ToDoubles(host.value),
                       testing::kFloat32Tolerance);
}

}  // namespace
}  // namespace unipool
