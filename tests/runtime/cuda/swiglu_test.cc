#include "runtime/ops/swiglu.h"

#include <gtest/gtest.h>

#include "tests/support/both_devices.h"
#include "tests/support/gpu.h"
#include "tests/support/workbench.h"

namespace unipool::testing {
namespace {

// Widths that are, and are not, multiples of a pack of 16 bytes.
constexpr int64_t kWidths[] = {1, 13, 64, 1048};

TEST(CudaSwiGlu, ForwardAgrees) {
  SKIP_WITHOUT_GPU();
  for (const int64_t ffn : kWidths) {
    Workbench bench;
    ExpectOnBothDevices(SwiGluForward{.gate_up = bench.Random("gate_up", {7, 2 * ffn}, 3.0f),
                                      .y = bench.Poisoned({7, ffn})});
  }
}

SwiGluBackward NewBackward(Workbench& bench, int64_t rows, int64_t ffn) {
  return {.dy = bench.Random("dy", {rows, ffn}),
          .gate_up = bench.Random("gate_up", {rows, 2 * ffn}, 3.0f),
          .dgate_up = bench.Poisoned({rows, 2 * ffn}),
          .y = bench.Poisoned({rows, ffn})};
}

TEST(CudaSwiGlu, BackwardAgreesAlsoInPlaceAndWithoutY) {
  SKIP_WITHOUT_GPU();
  for (const int64_t ffn : kWidths) {
    Workbench bench;
    SwiGluBackward op = NewBackward(bench, 5, ffn);
    ExpectOnBothDevices(op);
    op.y = Tensor{};
    ExpectOnBothDevices(op);
    op.dgate_up = op.gate_up;
    op.y = op.dy;
    ExpectOnBothDevices(op);
  }
}

TEST(CudaSwiGlu, RowsBehindTheLastOffsetStayAsTheyAre) {
  SKIP_WITHOUT_GPU();
  for (const int64_t ffn : kWidths) {
    Workbench bench;
    const Tensor offsets = bench.Longs({3}, {7, 7, 10});
    SwiGluBackward op = NewBackward(bench, 5, ffn);
    op.offsets = offsets;
    ExpectOnBothDevices(op);
    ExpectOnBothDevices(
        SwiGluForward{.gate_up = op.gate_up, .y = bench.Poisoned({5, ffn}), .offsets = offsets});
  }
}

TEST(CudaSwiGlu, AcceptsNoRowsAndHugeGates) {
  SKIP_WITHOUT_GPU();
  Workbench bench;
  ExpectOnBothDevices(NewBackward(bench, 0, 8));
  const Tensor gate_up = bench.Floats({1, 8}, {1000, -1000, 90, 0, 2, 2, 2, 2});
  ExpectOnBothDevices(SwiGluForward{.gate_up = gate_up, .y = bench.Poisoned({1, 4})});
  ExpectOnBothDevices(SwiGluBackward{.dy = bench.Floats({1, 4}, {1, 1, 1, 1}),
                                     .gate_up = gate_up,
                                     .dgate_up = bench.Poisoned({1, 8}),
                                     .y = Tensor{}});
}

}  // namespace
}  // namespace unipool::testing
