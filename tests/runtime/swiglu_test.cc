#include "runtime/ops/swiglu.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <cmath>

#include "runtime/ops/compute.h"
#include "tests/support/grad_check.h"
#include "tests/support/workbench.h"

namespace unipool {
namespace {

using testing::Dot;
using testing::ExpectGradient;
using testing::ExpectNear;
using testing::ToVector;
using testing::Workbench;

TEST(SwiGlu, MatchesTheFormula) {
  Workbench bench;
  const Tensor gate_up = bench.Random("gate_up", {5, 2 * 19}, 3.0f), y = bench.Poisoned({5, 19});
  const Tensor expected = bench.Zeros({5, 19});
  for (int64_t i = 0; i < 5 * 19; ++i) {
    const float* row = gate_up.as<float>() + i / 19 * 38;
    const double gate = row[i % 19], up = row[19 + i % 19];
    expected.as<float>()[i] = static_cast<float>(gate / (1 + std::exp(-gate)) * up);
  }
  Compute(bench.ctx(), SwiGluForward{.gate_up = gate_up, .y = y});
  ExpectNear(y, expected, 1e-6, 1e-6);
}

TEST(SwiGlu, LargeGatesSaturate) {
  Workbench bench;
  const Tensor gate_up = bench.Floats({1, 8}, {1000, -1000, 90, 0, 2, 2, 2, 2});
  const Tensor y = bench.Poisoned({1, 4}), dgate_up = bench.Poisoned({1, 8});
  const Tensor dy = bench.Floats({1, 4}, {1, 1, 1, 1});
  Compute(bench.ctx(), SwiGluForward{.gate_up = gate_up, .y = y});
  ExpectNear(y, bench.Floats({1, 4}, {2000, 0, 180, 0}), 1e-30);
  Compute(bench.ctx(),
          SwiGluBackward{.dy = dy, .gate_up = gate_up, .dgate_up = dgate_up, .y = Tensor{}});
  ExpectNear(dgate_up, bench.Floats({1, 8}, {2, 0, 2, 1, 1000, 0, 90, 0}), 1e-30);
}

TEST(SwiGlu, GradientsMatchFiniteDifferences) {
  Workbench bench;
  const Tensor gate_up = bench.Random("gate_up", {3, 2 * 13}), dy = bench.Random("dy", {3, 13});
  const Tensor y = bench.Poisoned({3, 13}), dgate_up = bench.Poisoned({3, 2 * 13});
  const auto loss = [&] {
    Compute(bench.ctx(), SwiGluForward{.gate_up = gate_up, .y = y});
    return Dot(y, dy);
  };
  Compute(bench.ctx(),
          SwiGluBackward{.dy = dy, .gate_up = gate_up, .dgate_up = dgate_up, .y = Tensor{}});
  ExpectGradient(gate_up, dgate_up, loss, {.step = 1e-2, .tolerance = 1e-3, .max_elements = 78});
}

TEST(SwiGlu, BackwardMayOverwriteItsInputsAndGivesTheForwardAgain) {
  Workbench bench;
  const Tensor gate_up = bench.Random("gate_up", {70, 2 * 45}), dy = bench.Random("dy", {70, 45});
  const Tensor forward = bench.Poisoned({70, 45}), y = bench.Poisoned({70, 45});
  const Tensor dgate_up = bench.Poisoned({70, 2 * 45});
  Compute(bench.ctx(), SwiGluForward{.gate_up = gate_up, .y = forward});
  Compute(bench.ctx(), SwiGluBackward{.dy = dy, .gate_up = gate_up, .dgate_up = dgate_up, .y = y});
  Compute(bench.ctx(), SwiGluBackward{.dy = dy, .gate_up = gate_up, .dgate_up = gate_up, .y = dy});
  ExpectNear(y, forward, 1e-6, 1e-6);
  EXPECT_EQ(ToVector(dy), ToVector(y));
  EXPECT_EQ(ToVector(gate_up), ToVector(dgate_up));
}

// Offsets count from the first row of the tensors, whatever their first value.
TEST(SwiGlu, RowsBehindTheLastOffsetAreNeitherReadNorWritten) {
  Workbench bench;
  const Tensor offsets = bench.Longs({3}, {4, 5, 6}), y = bench.Poisoned({3, 1});
  const Tensor gate_up = bench.Floats({3, 2}, {90, 2, 90, 3, NAN, NAN});
  Compute(bench.ctx(), SwiGluForward{.gate_up = gate_up, .y = y, .offsets = offsets});
  EXPECT_EQ(y.as<float>()[0], 180);
  EXPECT_EQ(y.as<float>()[1], 270);
  EXPECT_TRUE(std::isnan(y.as<float>()[2]));
  const Tensor dy = bench.Floats({3, 1}, {1, 2, 7}),
               dgate_up = bench.Floats({3, 2}, {0, 0, 0, 0, 8, 9});
  Compute(bench.ctx(),
          SwiGluBackward{
              .dy = dy, .gate_up = gate_up, .dgate_up = dgate_up, .y = dy, .offsets = offsets});
  EXPECT_EQ(ToVector(dgate_up), (std::vector<float>{2, 90, 6, 180, 8, 9}));
  EXPECT_EQ(ToVector(dy), (std::vector<float>{180, 270, 7}));
}

TEST(SwiGlu, AcceptsNoRows) {
  Workbench bench;
  const Tensor gate_up = bench.Zeros({0, 8}), y = bench.Zeros({0, 4});
  Compute(bench.ctx(), SwiGluForward{.gate_up = gate_up, .y = y});
  Compute(bench.ctx(), SwiGluBackward{.dy = y, .gate_up = gate_up, .dgate_up = gate_up, .y = y});
}

TEST(SwiGlu, ThreadsDoNotChangeTheBits) {
  Workbench bench;
  const Tensor gate_up = bench.Random("gate_up", {37, 2 * 21}), y = bench.Poisoned({37, 21});
  omp_set_num_threads(1);
  Compute(bench.ctx(), SwiGluForward{.gate_up = gate_up, .y = y});
  const std::vector<float> one = ToVector(y);
  omp_set_num_threads(2);
  Compute(bench.ctx(), SwiGluForward{.gate_up = gate_up, .y = y});
  EXPECT_EQ(ToVector(y), one);
  omp_set_num_threads(omp_get_num_procs());
}

}  // namespace
}  // namespace unipool
